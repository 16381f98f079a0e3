"""From the YAML's form to what delivery uses: times, retries, breakers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from app.catalog.model import Model
from app.config import schema
from app.delivery.deployment import UpstreamPolicy
from app.delivery.health import BreakerSettings
from app.exchange.terms import NO_TIMEOUTS, Hedge, Retries, Terms, Timeouts, TimeoutsOrNone


class Afford(Protocol):
    """Whether a model may be asked, beside those that are being asked at this moment."""

    def __call__(self, model: Model, *beside: Model) -> Awaitable[bool]: ...


def of_route(written: schema.Route) -> Terms:
    """How a route's requests are delivered."""
    times = TimeoutsOrNone(
        connect=written.timeouts.connect_seconds,
        first_byte=written.timeouts.first_byte_seconds,
        idle=written.timeouts.idle_seconds,
        total=written.timeouts.total_seconds,
    )
    return Terms(
        NO_TIMEOUTS if times == NO_TIMEOUTS else times,
        None if written.retries is None else _retries(written.retries),
        written.on_content_refusal,
        continues=written.on_stream_failure == "continue",
        hedge=None if written.hedge is None else Hedge(**written.hedge.model_dump()),
    )


def of_upstream(written: schema.Upstream) -> UpstreamPolicy:
    """When deployments of an upstream are left alone, and how often they are asked again."""
    breaker, door = written.breaker, None
    if isinstance(written, schema.OpenAIUpstream):
        door = (written.base_url, written.api_key, written.headers)
    return UpstreamPolicy(
        breaker=None if breaker is None else BreakerSettings(**breaker.model_dump()),
        max_cooldown_seconds=written.max_cooldown_seconds,
        retries=_retries(written.retries),
        door=door,
    )


def timeouts(written: schema.Timeouts) -> Timeouts:
    """Of an upstream's attempts."""
    return Timeouts(
        connect=written.connect_seconds,
        first_byte=written.first_byte_seconds,
        idle=written.idle_seconds,
        total=written.total_seconds,
    )


def _retries(written: schema.Retries) -> Retries:
    return Retries(**written.model_dump())
