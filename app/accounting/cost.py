"""Cost of a call from its reported usage and the model's prices; unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Iterator

from app.catalog.prices import PriceBook, Prices, today
from app.exchange.money import TOKENS_PER_PRICE, round_to_nano
from app.exchange.usage import Usage

Line = tuple[str, int, int | None]
"""A price's name, how many tokens it is for, and the price; None is unknown."""


def cost(prices: PriceBook | None, usage: Usage | None, day: int | None = None) -> int | None:
    """Nano-dollars of one call at the prices in force on a UTC day, today's if left out.

    None where the usage was not reported, or a price that it needs is not known: cached tokens
    are not billed at the full price behind the operator's back. Rounded once, half to even.
    """
    if usage is None or (rates := _in_force(prices, usage, day)) is None:
        return None
    total = rates.per_request * TOKENS_PER_PRICE
    for _, tokens, price in lines(rates, usage):
        if price is None:
            return None
        total += tokens * price
    return round_to_nano(total)


def missing_price(prices: PriceBook | None, usage: Usage, day: int | None = None) -> str:
    """Name of the price that keeps `cost` from being known, for a warning."""
    if prices is None or (listed := prices.on(today() if day is None else day)) is None:
        return "prices"
    place = "prices"
    if listed.for_service(usage.service_tier) is None:
        return f"{place}.service_tiers.{usage.service_tier}"
    if usage.service_tier in listed.service_tiers:
        place = f"{place}.service_tiers.{usage.service_tier}"
    rates = _in_force(prices, usage, day)
    assert rates is not None
    return next(f"{place}.{name}" for name, _, price in lines(rates, usage) if price is None)


def lines(rates: Prices, usage: Usage) -> Iterator[Line]:
    """The bill of a call: each token once, at the price of the most particular thing it is.

    `rates` is the list for the call's day, service tier and size.
    """
    fresh = usage.input_tokens
    if usage.cached_tokens:
        fresh -= usage.cached_tokens
        if text := usage.cached_tokens - usage.cached_audio_tokens:
            yield "cached_input", text, rates.cached_input
        if usage.cached_audio_tokens:
            yield "cached_audio_input", usage.cached_audio_tokens, rates.cached_audio_input
    if usage.cache_write_tokens:
        fresh -= usage.cache_write_tokens
        if short := usage.cache_write_tokens - usage.cache_write_1h_tokens:
            yield "cache_write", short, rates.cache_write
        if usage.cache_write_1h_tokens:
            yield "cache_write_1h", usage.cache_write_1h_tokens, rates.cache_write_1h
    if audio := usage.audio_input_tokens - usage.cached_audio_tokens:
        fresh -= audio
        yield "audio_input", audio, rates.audio_input
    if usage.image_input_tokens and rates.image_input is not None:
        fresh -= usage.image_input_tokens
        yield "image_input", usage.image_input_tokens, rates.image_input
    yield "input", fresh, rates.input
    output = usage.output_tokens
    if usage.reasoning_tokens and rates.reasoning is not None:
        output -= usage.reasoning_tokens
        yield "reasoning", usage.reasoning_tokens, rates.reasoning
    if usage.audio_output_tokens:
        output -= usage.audio_output_tokens
        yield "audio_output", usage.audio_output_tokens, rates.audio_output
    if usage.image_output_tokens:
        output -= usage.image_output_tokens
        yield "image_output", usage.image_output_tokens, rates.image_output
    yield "output", output, rates.output


def expected_cost(
    prices: PriceBook | None, input_tokens: int, output_tokens: float, day: int | None = None
) -> int | None:
    """Nano-dollars a call is expected to cost, with no help from a prompt cache."""
    if prices is None or (listed := prices.on(today() if day is None else day)) is None:
        return None
    rates = listed.for_size(input_tokens) if listed.tiers else listed
    tokens = input_tokens * rates.input + output_tokens * rates.output
    return round(tokens / TOKENS_PER_PRICE) + rates.per_request


def largest_cost(
    prices: PriceBook | None, input_tokens: int, output_tokens: int, day: int | None = None
) -> int | None:
    """Nano-dollars a call can cost at most: every token at the dearest price that it may be billed
    at, whatever is cached, written, spoken or thought, and however it is served."""
    if prices is None or (listed := prices.on(today() if day is None else day)) is None:
        return None
    if not listed.tiers and not listed.service_tiers:
        return _at_most(listed, input_tokens, output_tokens)
    return max(
        _at_most(sized, input_tokens, output_tokens)
        for rates in (listed, *listed.service_tiers.values())
        # Fewer tokens than the most may be billed by an earlier tier, which may be the dearer one.
        for sized in (rates, *[tier for above, tier in rates.tiers if input_tokens > above])
    )


def _at_most(rates: Prices, input_tokens: int, output_tokens: int) -> int:
    total = input_tokens * rates.dearest_input + output_tokens * rates.dearest_output
    return -(-total // TOKENS_PER_PRICE) + rates.per_request


def _in_force(prices: PriceBook | None, usage: Usage, day: int | None) -> Prices | None:
    """The list for a call's day, service tier and size."""
    if prices is None or (listed := prices.on(today() if day is None else day)) is None:
        return None
    rates = listed.for_service(usage.service_tier) if usage.service_tier else listed
    return rates.for_size(usage.input_tokens) if rates is not None and rates.tiers else rates
