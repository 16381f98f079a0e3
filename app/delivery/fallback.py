"""Carrying out a plan: one model after the other until one answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole, attempt
from app.delivery.upstreams.base import Upstream
from app.errors import StaleConnection, UpstreamError, UpstreamRateLimited
from app.exchange.record import Attempt, Record
from app.exchange.request import Request
from app.telemetry.logs import attempt_failed


async def deliver(
    request: Request,
    plan: tuple[Model, ...],
    upstreams: Mapping[str, Upstream],
    record: Record,
    afford: Callable[[Model], Awaitable[bool]] | None = None,
) -> Whole | Opened:
    """Try the models of a plan in order; every attempt is noted in the record. A model that
    `afford` does not allow is left out.

    Raises the most telling UpstreamError when all have failed, or at once one that would meet
    every other model as well.
    """
    errors: list[UpstreamError] = []
    for model in plan:
        if afford is not None and not await afford(model):
            continue
        try:
            try:
                return await _noted(request, model, upstreams[model.upstream], record)
            except StaleConnection:
                return await _noted(request, model, upstreams[model.upstream], record)
        except UpstreamError as error:
            if not error.moves_on:
                raise
            errors.append(error)
    raise _most_telling(errors)


async def _noted(
    request: Request, model: Model, upstream: Upstream, record: Record
) -> Whole | Opened:
    """One attempt, with its line in the record, and in the log if it failed."""
    started = perf_counter()
    noted = Attempt(upstream.name, model.name, "cancelled", 0.0)
    try:
        result = await attempt(request, model, upstream)
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


def _most_telling(errors: list[UpstreamError]) -> UpstreamError:
    """429 only if every upstream said so: a client waits for a 429, and retries a 5xx."""
    others = [error for error in errors if error.code != UpstreamRateLimited.code]
    return others[-1] if others else errors[-1]
