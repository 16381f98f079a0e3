"""Asking one deployment: what is noted of it in the record, and what it says of its health."""

from __future__ import annotations

from time import perf_counter

from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole, attempt
from app.delivery.deployment import Seat
from app.delivery.upstreams.base import Timeouts, Upstream
from app.errors import StaleConnection, UpstreamError, UpstreamRefusedRequest, UpstreamTimeout
from app.exchange.record import Attempt, Record
from app.exchange.request import Request
from app.telemetry.logs import attempt_failed


async def ask(
    request: Request,
    model: Model,
    seat: Seat,
    upstream: Upstream,
    times: Timeouts,
    usual: Timeouts,
    record: Record,
) -> Whole | Opened:
    """One attempt within `times`, and a second one if a kept connection turned out to be stale. The
    seat is ended but for a stream, which takes it along. Raises an UpstreamError.

    `usual` are the times that the deployment would have if the request had more of it.
    """
    started = perf_counter()
    try:
        try:
            result = await _noted(request, model, seat, upstream, times, record)
        except StaleConnection:
            result = await _noted(request, model, seat, upstream, times, record)
    except UpstreamRefusedRequest:
        # It has answered, and soon: that is all that is asked of its health.
        seat.end("ok", 0)
        raise
    except UpstreamTimeout as error:
        # Who was in a hurry, or had waited for others before, proves nothing.
        patient = perf_counter() - started >= min(usual.first_byte, usual.total)
        seat.end("failed" if patient else "unknown", None if error.charged else 0)
        raise
    except UpstreamError as error:
        seat.end("failed" if error.blames else "unknown", None if error.charged else 0)
        raise
    except BaseException:
        seat.end("unknown")
        raise
    seat.begun()
    if isinstance(result, Opened):
        result.seat = seat
    else:
        usage = result.usage
        seat.end("ok", None if usage is None else usage.input_tokens + usage.output_tokens)
    return result


async def _noted(
    request: Request,
    model: Model,
    seat: Seat,
    upstream: Upstream,
    times: Timeouts,
    record: Record,
) -> Whole | Opened:
    """One attempt, with its line in the record, and in the log if it failed."""
    started = perf_counter()
    noted = seat.attempt = Attempt(upstream.name, model.name, "cancelled", 0.0)
    if len(model.deployments) > 1:
        noted.deployment = seat.deployment.name
    if record.trace is not None:
        record.trace.call(noted, seat.deployment.upstream_id, upstream.place)
    try:
        result = await attempt(request, model, seat.deployment, upstream, times)
        noted.outcome, noted.status = "ok", 200
        if isinstance(result, Whole):
            noted.usage, noted.usage_fault = result.usage, result.usage_fault
    except UpstreamError as error:
        noted.outcome, noted.status, noted.charged = error.outcome, error.status, error.charged
        attempt_failed(record.request_id, upstream.name, model.name, error)
        raise
    finally:
        noted.seconds = perf_counter() - started
        record.upstream_seconds += noted.seconds
        record.attempts.append(noted)
    record.model, record.upstream = model.name, upstream.name
    return result
