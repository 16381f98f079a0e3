"""What a key, a tag, a route or the whole gateway may spend and send."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.config import schema
from app.exchange.money import nano_from_usd


@dataclass(frozen=True, slots=True)
class Limits:
    """Money in nano-dollars; None is no limit. Days, weeks (from Monday) and months are UTC's.

    `soft_share` is the part of a limit from which on a caller is warned.
    """

    per_day: int | None = None
    per_week: int | None = None
    per_month: int | None = None
    in_all: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    soft_share: float = 0.8

    @property
    def is_budget(self) -> bool:
        """Whether money is limited."""
        money = (self.per_day, self.per_week, self.per_month, self.in_all)
        return any(amount is not None for amount in money)

    @classmethod
    def compile(cls, written: schema.Limits) -> Limits:
        def nano(amount: Decimal | None) -> int | None:
            return None if amount is None else nano_from_usd(amount)

        return cls(
            per_day=nano(written.usd_per_day),
            per_week=nano(written.usd_per_week),
            per_month=nano(written.usd_per_month),
            in_all=nano(written.usd_in_all),
            requests_per_minute=written.requests_per_minute,
            tokens_per_minute=written.tokens_per_minute,
            parallel_requests=written.parallel_requests,
            soft_share=written.soft_share,
        )
