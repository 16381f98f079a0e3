"""What a model's tokens cost: price lists compiled from the YAML, and which one is in force when.

A price is an integer, nano-dollars per million tokens. None is unknown, which is not free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from time import time
from types import MappingProxyType

from app.config import schema
from app.exchange.money import nano_from_usd

DAY_SECONDS = 86_400
EPOCH = date(1970, 1, 1).toordinal()
USUAL_TIERS = frozenset({"default", "standard", "auto", "on_demand"})
"""How providers call being served the usual way."""

_NONE: Mapping[str, Prices] = MappingProxyType({})


def today() -> int:
    """The UTC day, counted from 1970."""
    return int(time() // DAY_SECONDS)


def day_of(when: date) -> int:
    """Days since 1970, as `seconds since the epoch // 86400` counts them."""
    return when.toordinal() - EPOCH


@dataclass(frozen=True, slots=True)
class Prices:
    """One price list. Nano-dollars per million tokens, but `per_request`: nano-dollars of a call.

    `reasoning`, `image_input`: None where such tokens cost what output and input do. The other
    optional ones: None is unknown. `tiers` are lists for whole requests with more input tokens than
    stated, rising; `service_tiers` are lists for other ways to be served, by lower-case name.
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    cached_audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    per_request: int = 0
    tiers: tuple[tuple[int, Prices], ...] = ()
    service_tiers: Mapping[str, Prices] = field(default_factory=lambda: _NONE, hash=False)
    dearest_input: int = field(init=False, repr=False, compare=False)
    """What a token of the input costs at most, whatever it is and whether it is cached."""
    dearest_output: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        into = (
            self.input, self.cached_input, self.cache_write, self.cache_write_1h,
            self.audio_input, self.cached_audio_input, self.image_input,
        )  # fmt: skip
        out = (self.output, self.reasoning, self.audio_output, self.image_output)
        for name, prices in (("dearest_input", into), ("dearest_output", out)):
            object.__setattr__(self, name, max(price for price in prices if price is not None))

    @classmethod
    def compile(cls, written: schema.Prices) -> Prices:
        per_request = nano_from_usd(written.per_request or Decimal(0))
        others = {
            name.lower(): replace(_rates(tier, per_request), tiers=_sizes(tier, per_request))
            for name, tier in written.service_tiers.items()
        }
        return replace(
            _rates(written, per_request),
            tiers=_sizes(written, per_request),
            service_tiers=MappingProxyType(others),
        )

    def on(self, day: int) -> Prices | None:
        """The list in force on a day: itself, always."""
        return self

    def for_service(self, tier: str | None) -> Prices | None:
        """The list for a way to be served, as the upstream names it; None is unknown."""
        if tier is None:
            return self
        return self.service_tiers.get(tier, self if tier in USUAL_TIERS else None)

    def for_size(self, input_tokens: int) -> Prices:
        """The list for a request of that many input tokens."""
        chosen = self
        for above, prices in self.tiers:
            if input_tokens <= above:
                break
            chosen = prices
        return chosen


@dataclass(frozen=True, slots=True)
class DatedPrices:
    """Price lists one after the other. `days[i]` is the first day of `lists[i]`, as in `day_of`."""

    days: tuple[int, ...]
    lists: tuple[Prices, ...]

    @classmethod
    def compile(cls, written: list[schema.Prices]) -> DatedPrices:
        days = tuple(0 if each.from_ is None else day_of(each.from_) for each in written)
        return cls(days, tuple(Prices.compile(each) for each in written))

    def on(self, day: int) -> Prices | None:
        """The list in force on a day; None before the first."""
        place = bisect_right(self.days, day)
        return self.lists[place - 1] if place else None


PriceBook = Prices | DatedPrices


def compile_prices(written: schema.PricesOrLists | None) -> PriceBook | None:
    """From the YAML's form; None for no prices, or ready ones that are looked up elsewhere."""
    match written:
        case schema.Prices(from_=None):
            return Prices.compile(written)
        case schema.Prices():
            return DatedPrices.compile([written])
        case list():
            return DatedPrices.compile(written)
    return None


def _rates(written: schema.Rates, per_request: int) -> Prices:
    """A list without tiers. `per_request` is the fee where it states none of its own."""

    def nano(amount: Decimal | None) -> int | None:
        return None if amount is None else nano_from_usd(amount)

    fee = nano(written.per_request)
    return Prices(
        input=nano_from_usd(written.input),
        output=nano_from_usd(written.output),
        cached_input=nano(written.cached_input),
        cache_write=nano(written.cache_write),
        cache_write_1h=nano(written.cache_write_1h),
        reasoning=nano(written.reasoning),
        audio_input=nano(written.audio_input),
        cached_audio_input=nano(written.cached_audio_input),
        audio_output=nano(written.audio_output),
        image_input=nano(written.image_input),
        image_output=nano(written.image_output),
        per_request=per_request if fee is None else fee,
    )


def _sizes(written: schema.SizedRates, per_request: int) -> tuple[tuple[int, Prices], ...]:
    return tuple((tier.above_tokens, _rates(tier, per_request)) for tier in written.tiers)
