"""A model as serving sees it: compiled from the YAML, immutable, money in nano-dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.config import schema
from app.exchange.money import nano_from_usd


@dataclass(frozen=True, slots=True)
class Prices:
    """Nano-dollars per million tokens; None is unknown, which is not free."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None

    @classmethod
    def compile(cls, written: schema.Prices) -> Prices:
        def nano(amount: Decimal | None) -> int | None:
            return None if amount is None else nano_from_usd(amount)

        return cls(
            input=nano_from_usd(written.input),
            output=nano_from_usd(written.output),
            cached_input=nano(written.cached_input),
            cache_write=nano(written.cache_write),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalog. `capabilities` is None where the YAML does not say."""

    name: str
    upstream: str
    upstream_id: str
    prices: Prices | None = None
    context_window: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    like: str | None = None
    quality: float | None = None

    @classmethod
    def compile(cls, name: str, written: schema.Model) -> Model:
        capabilities = written.capabilities
        return cls(
            name=name,
            upstream=written.upstream,
            upstream_id=written.id or name,
            prices=None if written.prices is None else Prices.compile(written.prices),
            context_window=written.context_window,
            max_output=written.max_output,
            capabilities=None if capabilities is None else frozenset(capabilities),
            like=written.like,
            quality=written.quality,
        )
