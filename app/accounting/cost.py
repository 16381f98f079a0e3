"""Cost of a call from its reported usage and the model's prices; unknown is None, never 0."""

from __future__ import annotations

from app.catalog.model import Prices
from app.exchange.money import round_to_nano
from app.exchange.usage import Usage


def cost(prices: Prices | None, usage: Usage | None) -> int | None:
    """Nano-dollars of one call.

    None where the usage was not reported, or a price that it needs is not known: cached tokens
    are not billed at the full price behind the operator's back.
    """
    if prices is None or usage is None:
        return None
    total = usage.fresh_tokens * prices.input + usage.output_tokens * prices.output
    if usage.cached_tokens:
        if prices.cached_input is None:
            return None
        total += usage.cached_tokens * prices.cached_input
    if usage.cache_write_tokens:
        if prices.cache_write is None:
            return None
        total += usage.cache_write_tokens * prices.cache_write
    return round_to_nano(total)


def missing_price(prices: Prices | None, usage: Usage) -> str:
    """Name of the price that kept `cost` from being known, for a warning."""
    if prices is None:
        return "prices"
    if usage.cached_tokens and prices.cached_input is None:
        return "prices.cached_input"
    return "prices.cache_write"


def expected_cost(prices: Prices | None, input_tokens: int, output_tokens: float) -> int | None:
    """Nano-dollars a call is expected to cost, with no help from a prompt cache."""
    if prices is None:
        return None
    return round((input_tokens * prices.input + output_tokens * prices.output) / 1_000_000)
