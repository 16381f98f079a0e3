"""What a request cost: every attempt is booked to it; what broke off unreported is estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from app.accounting.cost import cost, missing_price
from app.catalog.model import Model
from app.catalog.prices import DAY_SECONDS
from app.exchange.record import Attempt, Record
from app.exchange.usage import Usage

_BYTES_PER_TOKEN = 4
"""Of text in a stream; about right for English and, three bytes a character, for Chinese."""


class Doubt(NamedTuple):
    """Why a cost could not be known, or an upstream's report not be used; told once a key."""

    key: str
    message: str


def charge(record: Record, models: Mapping[str, Model], baseline: Model | None) -> list[Doubt]:
    """Fill in a finished record's money, from its attempts, at the prices of the day it came in.

    Its cost is the sum over the attempts, null as soon as one of them is unknown. An attempt that
    failed in a way that providers don't charge for costs 0. One that was sent and broke off without
    a report is estimated: the request's input, and what text of a stream had come. One that ended
    well without a report stays unknown. What was saved is against the baseline at the usage of the
    attempt that served; where none did, against nothing.
    """
    day = int(record.at // DAY_SECONDS)
    if record.cache is not None and record.cache.result == "hit":
        _charge_hit(record, record.cache.usage, baseline, day)
        return []
    doubts: list[Doubt] = []
    total: int | None = 0
    for attempt in record.attempts:
        prices = models[attempt.model].prices_at(attempt.deployment)
        _estimate(attempt, record.expected_input_tokens)
        if attempt.usage is not None:
            attempt.cost = cost(prices, attempt.usage, day)
            if attempt.cost is None:
                missing = missing_price(prices, attempt.usage, day)
                doubts.append(_unpriced(attempt.model, missing))
            if attempt.usage.upstream_cost is not None:
                record.upstream_cost = (record.upstream_cost or 0) + attempt.usage.upstream_cost
            record.cost_estimated |= attempt.estimated
        elif not attempt.charged:
            attempt.cost = 0
        if attempt.usage_fault is not None:
            doubts.append(_senseless(attempt.model, attempt.usage_fault))
        total = None if total is None or attempt.cost is None else total + attempt.cost
    if record.attempts:
        record.cost = total
    if record.model is not None:
        record.usage = served.usage if (served := record.served) else None
        if baseline is not None:
            record.baseline_cost = cost(baseline.prices, record.usage, day)
    elif baseline is not None and record.attempts:
        # Nobody got an answer, and none is worth nothing: what it cost is taken off what is saved.
        record.baseline_cost = 0
    return doubts


def _charge_hit(record: Record, usage: Usage | None, baseline: Model | None, day: int) -> None:
    """An answer of the cache costs nothing, and saves what the baseline would have cost. Its tokens
    are not booked: nobody was asked for them."""
    if record.model is not None:
        record.cost = 0
        if baseline is not None:
            record.baseline_cost = cost(baseline.prices, usage, day)


def _estimate(attempt: Attempt, input_tokens: int) -> None:
    if attempt.usage is None and attempt.charged and attempt.outcome != "ok":
        attempt.usage = Usage(input_tokens, -(-attempt.text_bytes // _BYTES_PER_TOKEN))
        attempt.estimated = True


def _unpriced(model: str, missing: str) -> Doubt:
    return Doubt(f"{model}/price", f"the cost of model {model} is unknown: set its `{missing}`")


def _senseless(model: str, fault: str) -> Doubt:
    return Doubt(
        f"{model}/usage",
        f"model {model} reports a usage that makes no sense ({fault}); it counts as not reported",
    )
