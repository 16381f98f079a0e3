"""Whether another model is worth the prompt cache that a conversation would lose by it.

Staying, what was sent before is read from the cache, now and in the turns to come. Switching, all
of it is sent anew once, and read from the other model's cache from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from app.catalog.prices import Prices, today
from app.exchange.money import TOKENS_PER_PRICE
from app.routing.objective import Option

LEAST_CACHED_TOKENS = 1_024
"""Providers cache no shorter prompt."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is expected of a conversation from this request on: its input, how much of that the
    model that served so far may have cached, and how many requests there will be, this one
    included."""

    input_tokens: int
    cached_tokens: int
    turns: float


def saving(stays: Option, switches: Option, rest: Rest) -> float:
    """Nano-dollars that switching is expected to save over the rest; negative if it costs.

    A price of cached input that is not known is taken to be nothing where the conversation is, and
    that of all input where it would go: what is not known is not given up for a saving.
    """
    return _over(stays, rest, rest.cached_tokens, knows_nothing=0) - _over(
        switches, rest, 0, knows_nothing=None
    )


def _over(option: Option, rest: Rest, cached: int, knows_nothing: int | None) -> float:
    prices = option.model.prices.on(today()) if option.model.prices is not None else None
    if prices is None:
        return inf if knows_nothing is None else -inf
    prices = prices.for_size(rest.input_tokens)
    read = prices.cached_input
    if read is None:
        read = prices.input if knows_nothing is None else knows_nothing
    fresh = rest.input_tokens - cached
    growth = rest.input_tokens - rest.cached_tokens
    now = cached * read + fresh * _written(prices)
    later = rest.input_tokens * read + growth * _written(prices)
    said = option.output_tokens * prices.output * rest.turns
    tokens = now + (rest.turns - 1) * later + said
    return tokens / TOKENS_PER_PRICE + prices.per_request * rest.turns


def _written(prices: Prices) -> int:
    """The price of input that is to be cached."""
    return prices.input if prices.cache_write is None else prices.cache_write
