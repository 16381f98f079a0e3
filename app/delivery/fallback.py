"""Carrying out a plan: one model after the other until one answers."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole, attempt
from app.delivery.upstreams.base import Upstream
from app.errors import UpstreamError
from app.exchange.record import Attempt, Record
from app.exchange.request import Request


async def deliver(
    request: Request,
    plan: tuple[Model, ...],
    upstreams: Mapping[str, Upstream],
    record: Record,
) -> Whole | Opened:
    """Try the models of a plan in order; every attempt is noted in the record.

    Raises the most telling UpstreamError when all have failed, or at once one that would meet
    every other model as well.
    """
    errors: list[UpstreamError] = []
    for model in plan:
        started = perf_counter()
        outcome, status = "cancelled", None
        try:
            result = await attempt(request, model, upstreams[model.upstream])
            outcome, status = "ok", 200
        except UpstreamError as error:
            outcome, status = error.outcome, error.status
            if not error.moves_on:
                raise
            errors.append(error)
        else:
            record.model, record.upstream = model.name, model.upstream
            return result
        finally:
            seconds = perf_counter() - started
            record.upstream_seconds += seconds
            record.attempts.append(Attempt(model.upstream, model.name, outcome, seconds, status))
    raise _most_telling(errors)


def _most_telling(errors: list[UpstreamError]) -> UpstreamError:
    """429 only if every upstream said so: a client waits for a 429, and retries a 5xx."""
    if len({error.code for error in errors}) == 1:
        return errors[-1]
    others = [error for error in errors if error.code != "upstream_rate_limited"]
    return others[-1]
