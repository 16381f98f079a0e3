"""What is known of one deployment while serving: health, cooldown, load, latency, room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Literal, NamedTuple, Protocol

from app.catalog.model import Deployment
from app.delivery import outliers
from app.delivery.health import USUAL_BREAKER, Breaker, BreakerSettings, State, Verdict
from app.delivery.recent import RecentTimes
from app.delivery.retries import LoadBudget
from app.exchange.record import Attempt
from app.exchange.terms import USUAL_RETRIES, Retries
from app.state.base import Ask, Kind, Limit
from app.state.memory import MemoryState

_LATENCY_SECONDS = 30.0
"""How fast the mean of latencies forgets: a sample so long ago counts a third."""
_STALE_SECONDS = 120.0
"""A latency that was measured longer ago is not known any more."""
_HEDGES_SAVED = 20.0
"""A burst, and no more: when everything is slow, asking twice makes it slower."""
_UNTOLD_COOLDOWN_SECONDS = 1.0
"""After a 429 that does not say how long."""

Reason = Literal["open", "cooldown", "limit", "full"]
Event = Literal["open", "cooldown"]


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """What holds for every deployment of an upstream."""

    breaker: BreakerSettings | None = USUAL_BREAKER
    max_cooldown_seconds: float = 600.0
    retries: Retries = USUAL_RETRIES
    door: object = field(default=None, repr=False)
    """Its address and credentials, to be compared: what was met with others says nothing."""


USUAL_POLICY = UpstreamPolicy()


class Wait(NamedTuple):
    """Why a deployment takes no request now, and in how many seconds it may; infinite if never."""

    seconds: float
    reason: Reason


class Owner(Protocol):
    """Whose a state is: what all of them share."""

    clock: Callable[[], float]
    counters: MemoryState

    def tell(self, state: DeploymentState, event: Event, reason: str, until: float) -> None:
        """A breaker has opened or a cooldown has begun."""
        ...

    def changed(self, state: DeploymentState, to: State) -> None:
        """A breaker has come to another state."""
        ...


class DeploymentState:
    """One deployment. Its methods never wait."""

    def __init__(self, owner: Owner, deployment: Deployment, policy: UpstreamPolicy) -> None:
        self._owner = owner
        self.deployment, self.policy = deployment, policy
        self.breaker = Breaker(policy.breaker, owner.clock, self._changed)
        self.budget = LoadBudget(owner.clock)
        self.hedges = LoadBudget(owner.clock, floor=0.0, ceiling=_HEDGES_SAVED)
        self.cooldown_until = 0.0
        self.in_flight = 0
        self.peers: Sequence[DeploymentState] = (self,)
        self._latency: dict[bool, tuple[float, float]] = {}
        self._recent = {stream: RecentTimes() for stream in (False, True)}
        self._limits: tuple[Limit, ...] = ()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.configure(deployment, policy)

    def configure(self, deployment: Deployment, policy: UpstreamPolicy) -> None:
        if _place(deployment, policy) != _place(self.deployment, self.policy):
            self.breaker.close()
            self.cooldown_until = 0.0
            self._latency.clear()
        self.deployment, self.policy = deployment, policy
        self.priority, self.weight = deployment.priority, deployment.weight
        self.breaker.configure(policy.breaker)
        self._limits = tuple(_limits(deployment))
        rate = next((each for each in self._limits if each.kind == "tokens"), None)
        self._ceiling = rate.ceiling if rate is not None else 0
        self._part = self._owner.counters.part(rate) if rate is not None else 0

    @property
    def name(self) -> str:
        return self.deployment.name

    @property
    def failing(self) -> bool:
        """Half of what was asked of it failed, in the window of its breaker."""
        counts = self.breaker.window.counts()
        return 0 < counts.total <= 2 * counts.failed

    def latency(self, *, stream: bool) -> float | None:
        mean, at = self._latency.get(stream, (0.0, 0.0))
        return mean if mean and self._owner.clock() - at < _STALE_SECONDS else None

    def usual(self, percent: float, *, stream: bool) -> float | None:
        """Seconds that so many percent of late did not exceed: streams to their first event, others
        to the end of the answer. None while too few are known."""
        return self._recent[stream].percentile(percent, self._owner.clock())

    # --- letting requests through ------------------------------------------------------------

    def admit(self, tokens: int, *, stream: bool, forced: bool = False) -> Seat | Wait:
        """A seat for a request of about so many tokens. `forced` heeds no breaker."""
        shut = self.shut()
        if shut is not None and not (forced and shut.reason == "open"):
            return shut
        ask = Ask(0, self._taken(tokens))
        if self._limits:
            outcome = self._owner.counters.take(self._limits, ask)
            if outcome.refused:
                refused = [(outcome.readings[place].wait, place) for place in outcome.refused]
                seconds, place = max(refused)
                full = self._limits[place].kind == "parallel"
                return Wait(seconds, "full" if full else "limit")
        return Seat(self, self._limits, ask, stream=stream)

    def _taken(self, tokens: int) -> int:
        """What a request of so many takes of the rate: what its provider would take may be more
        than this process has of it, and takes all of that."""
        return min(tokens, self._part) if tokens <= self._ceiling else tokens

    def shut(self) -> Wait | None:
        """Why it takes no request at all now, whatever its limits; None if it does."""
        breaker = self.breaker
        if not self.cooldown_until and breaker.until is None:
            return None
        now = self._owner.clock()
        if self.cooldown_until > now:
            return Wait(self.cooldown_until - now, "cooldown")
        self.cooldown_until = 0.0
        if breaker.admits:
            return None
        return Wait(max((breaker.until or 0.0) - now, 0.0), "open")

    def vacancy(self) -> asyncio.Future[None]:
        """Done when a seat has become free; who came first is told first."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def leave_queue(self, vacancy: asyncio.Future[None]) -> None:
        """Wait no longer."""
        if not vacancy.done():
            vacancy.cancel()
            self._waiting.remove(vacancy)

    def _vacated(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)

    # --- what came of them -------------------------------------------------------------------

    def cool_down(self, seconds: float | None) -> None:
        """It asked to be left alone, for so long if it said so."""
        asked = _UNTOLD_COOLDOWN_SECONDS if seconds is None else seconds
        seconds = min(asked, self.policy.max_cooldown_seconds)
        if seconds <= 0:
            return
        until = self._owner.clock() + seconds
        if until > self.cooldown_until:
            if self.cooldown_until <= self._owner.clock():
                self._owner.tell(self, "cooldown", "rate_limited", until)
            self.cooldown_until = until

    def told(self, event: Event, until: float) -> None:
        """Another process has met with this."""
        if event == "open":
            self.breaker.open_until(until)
        else:
            most = self._owner.clock() + self.policy.max_cooldown_seconds
            self.cooldown_until = max(self.cooldown_until, min(until, most))

    def note_latency(self, seconds: float, *, stream: bool) -> None:
        now = self._owner.clock()
        mean, at = self._latency.get(stream, (seconds, now))
        # At least a tenth, or a burst would count as one sample.
        weight = max(1.0 - exp(-(now - at) / _LATENCY_SECONDS), 0.1)
        self._latency[stream] = (mean + weight * (seconds - mean), now)
        self._recent[stream].add(seconds, now)

    def judge(self) -> None:
        """After a failure: whether it is far worse than the other deployments of its model."""
        settings = self.breaker.settings
        if settings is None or len(self.peers) < 2 or self.breaker.until is not None:
            return
        others = [each for each in self.peers if each is not self]
        if outliers.stands_out(
            self.breaker.window.counts(),
            [each.breaker.window.counts() for each in others],
            out=sum(each.breaker.until is not None for each in others),
            least=settings.min_requests,
        ):
            self.breaker.open("outlier")

    def give_back(self, limits: tuple[Limit, ...], ask: Ask, tokens: int | None) -> None:
        self.in_flight -= 1
        if limits:
            true = Ask(0, ask.tokens if tokens is None else tokens)
            self._owner.counters.settle("", limits, ask, true)
            self._vacated()

    def time(self) -> float:
        return self._owner.clock()

    def _changed(self, to: State, reason: str) -> None:
        self._owner.changed(self, to)
        if to == "open":
            self._owner.tell(self, "open", reason, self.breaker.until or 0.0)


class Seat:
    """A request's place at a deployment, from before it is sent until its answer is over. Who has
    it must `end` it, once; again does nothing."""

    __slots__ = ("_ask", "_limits", "_probe", "_slow", "_started", "_stream", "attempt",
                 "deployment", "state")  # fmt: skip

    def __init__(
        self, state: DeploymentState, limits: tuple[Limit, ...], ask: Ask, *, stream: bool
    ) -> None:
        self.state: DeploymentState | None = state
        self.deployment = state.deployment
        self.attempt: Attempt | None = None
        """What the record says of what was asked here, the last time if it was twice."""
        self._limits, self._ask, self._stream = limits, ask, stream
        self._probe = state.breaker.enter()
        self._slow = False
        self._started = state.time()
        state.in_flight += 1

    def begun(self) -> None:
        """The first event of a stream has come, or the whole answer."""
        state = self.state
        if state is None:
            return
        seconds = state.time() - self._started
        state.note_latency(seconds, stream=self._stream)
        settings = state.breaker.settings
        slow_from = settings.slow_seconds if settings is not None else None
        self._slow = self._stream and slow_from is not None and seconds > slow_from
        if self._probe:
            # A long stream must not keep others waiting for what is known already.
            self._probe = False
            state.breaker.probed(good=not self._slow)

    def overtaken(self) -> None:
        """Another was sooner. How long it would have taken yet nobody knows; but that it took so
        long counts, or who is always overtaken would look as quick as it once was."""
        if self.state is not None:
            self.state.note_latency(self.state.time() - self._started, stream=self._stream)

    def end(self, verdict: Verdict, tokens: int | None = None) -> None:
        """Leave, with what the deployment is to be thought of and what was used, if known."""
        state, self.state = self.state, None
        if state is None:
            return
        state.give_back(self._limits, self._ask, tokens)
        state.breaker.leave(verdict, slow=self._slow, probe=self._probe)
        if verdict == "failed":
            state.judge()


def _place(deployment: Deployment, policy: UpstreamPolicy) -> tuple[object, ...]:
    """What a name stands for."""
    return deployment.upstream, deployment.upstream_id, policy.door


def _limits(deployment: Deployment) -> Iterator[Limit]:
    limits = deployment.limits
    if limits is None:
        return
    ceilings: tuple[tuple[Kind, int | None], ...] = (
        ("requests", limits.requests_per_minute),
        ("tokens", limits.tokens_per_minute),
        ("parallel", limits.parallel_requests),
    )
    for kind, ceiling in ceilings:
        if ceiling is not None:
            yield Limit(kind, f"{kind}:deployment:{deployment.name}", ceiling)
