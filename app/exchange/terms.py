"""The terms a request is delivered on: how long it may take, how often it may be tried, and what
becomes of it where a model refuses its content. Upstreams have them, routes may have others, and
request headers may shorten them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

_SLACK_SECONDS = 0.05
"""What a first attempt has lost by then of its total time is not worth a change."""

OnContentRefusal = Literal["return", "next_model"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of one attempt, in seconds."""

    connect: float
    first_byte: float
    idle: float
    total: float

    def under(self, other: TimeoutsOrNone) -> Timeouts:
        """With what another says in place of its own."""
        if other is NO_TIMEOUTS:
            return self
        return Timeouts(
            connect=self.connect if other.connect is None else other.connect,
            first_byte=self.first_byte if other.first_byte is None else other.first_byte,
            idle=self.idle if other.idle is None else other.idle,
            total=self.total if other.total is None else other.total,
        )

    def at_most(self, *, total: float, first_byte: float | None = None) -> Timeouts:
        """No longer than these; itself where it is shorter already, or as good as."""
        first = self.first_byte if first_byte is None else min(first_byte, self.first_byte)
        if total >= self.total - _SLACK_SECONDS and first == self.first_byte:
            return self
        return replace(self, total=min(total, self.total), first_byte=min(first, total))


@dataclass(frozen=True, slots=True)
class TimeoutsOrNone:
    """Seconds; None where nothing is said. The total is over all attempts."""

    connect: float | None = None
    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None


NO_TIMEOUTS = TimeoutsOrNone()


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a deployment may be asked again in one request, and how long is waited before.

    Waits are jittered between `base_seconds` and `max_seconds`; for a moment that an upstream has
    named at most `wait_seconds`. Over time retries add at most `budget_share` to the load.
    """

    attempts: int = 2
    base_seconds: float = 0.2
    max_seconds: float = 5.0
    wait_seconds: float = 30.0
    budget_share: float = 0.2


USUAL_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second deployment is asked beside one that is late: later than `percentile` percent of
    its recent answers, and than `min_seconds`. Over time hedges add at most `budget_share` to the
    requests. With `models`, another model may be asked where the same one has no other place."""

    percentile: float = 95.0
    budget_share: float = 0.05
    min_seconds: float = 0.1
    models: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """Of a route; None where the upstream's own hold."""

    timeouts: TimeoutsOrNone = NO_TIMEOUTS
    retries: Retries | None = None
    on_content_refusal: OnContentRefusal = "return"
    continues: bool = False
    """A stream that breaks off goes on on another model, where it can."""
    hedge: Hedge | None = None


USUAL_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for in request headers; it may shorten what is configured and no more."""

    total_seconds: float | None = None
    first_token_seconds: float | None = None
    retries: int | None = None


NOTHING_ASKED = Asked()
