"""What Pointsman says about a reply, in headers: read from the request's record alone."""

from __future__ import annotations

from app.exchange.money import usd_text
from app.exchange.record import Record
from app.exchange.reply import Headers


def headers(record: Record, *, debug: bool) -> Headers:
    """The headers of one reply; with `x-pointsman-debug: true` more of them."""
    told = [
        ("x-pointsman-request-id", record.request_id),
        ("x-pointsman-route", record.route),
        ("x-pointsman-decision", record.decision),
    ]
    if record.model is not None:
        told.append(("x-pointsman-model", record.model))
    if record.cost is not None:
        told.append(("x-pointsman-cost-usd", usd_text(record.cost)))
    if record.saved is not None:
        told.append(("x-pointsman-saved-usd", usd_text(record.saved)))
    if record.hold is not None:
        told += record.hold.headers
    if record.cache is not None:
        told.append(("x-pointsman-cache", record.cache.result))
        if record.cache.age_seconds is not None:
            told.append(("age", str(record.cache.age_seconds)))
    if debug:
        told += _debug(record)
    return told


def _debug(record: Record) -> Headers:
    attempts = ", ".join(
        f"{attempt.model}={attempt.outcome};ms={attempt.seconds * 1000:.1f}"
        for attempt in record.attempts
    )
    told = [
        ("x-pointsman-reason", record.reason),
        ("x-pointsman-speed", record.speed),
        *([("x-pointsman-trace-id", record.trace.id)] if record.trace is not None else []),
        ("x-pointsman-attempts", attempts),
        ("x-pointsman-decide-ms", f"{record.decide_seconds * 1000:.3f}"),
        ("x-pointsman-upstream-ms", f"{record.upstream_seconds * 1000:.3f}"),
    ]
    if record.cost_estimated:
        told.append(("x-pointsman-cost-estimated", "true"))
    if record.cache is not None and record.cache.reason:
        told.append(("x-pointsman-cache-reason", record.cache.reason))
    if record.cache is not None and record.cache.similarity is not None:
        told.append(("x-pointsman-cache-similarity", f"{record.cache.similarity:.4f}"))
    if record.predictions:
        predictions = ", ".join(
            f"{one.model}={one.quality:.3f}[{one.low:.3f}..{one.high:.3f}]"
            for one in record.predictions
        )
        told.append(("x-pointsman-predictions", predictions))
    return told
