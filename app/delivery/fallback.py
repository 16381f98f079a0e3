"""Carrying out a plan: one deployment after the other until one answers.

A round asks every deployment that can take the request now: those of the first model in their
order, then those of the next; a late one may get another one beside it. Between rounds something is
waited for: a moment that an upstream has named, room, or a little before what failed in passing is
asked again. All of it happens before the client has seen anything, and within the request's
deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from math import ceil
from time import perf_counter
from typing import NamedTuple

from app.catalog.model import Model
from app.delivery.asking import ask
from app.delivery.attempt import Opened, Whole
from app.delivery.deployment import DeploymentState, Seat, Wait
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain
from app.delivery.hedge import Hedging
from app.delivery.race import Entry
from app.delivery.retries import decorrelated
from app.delivery.terms import Afford
from app.delivery.upstreams.base import Upstream
from app.errors import (
    ContentRefused,
    ContextTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from app.exchange.record import Record
from app.exchange.request import Request
from app.exchange.terms import USUAL_TERMS, Retries, Terms

_USUAL_OUTPUT_TOKENS = 300
"""Taken from a deployment's rate of tokens where the request sets no end; corrected after."""
_LONGEST_TOLD_SECONDS = 86_400.0


async def deliver(
    request: Request,
    plan: tuple[Model, ...],
    upstreams: Mapping[str, Upstream],
    record: Record,
    deployments: Deployments,
    terms: Terms = USUAL_TERMS,
    afford: Afford | None = None,
    first: str | None = None,
    drain: Drain | None = None,
) -> Whole | Opened:
    """Try the models of a plan in order; every attempt is noted in the record. A model that
    `afford` does not allow is left out. `first` names a deployment that is asked before its equals,
    because a conversation is at home there. Nothing is hedged while it drains. A stream that is
    given has a seat, which must be ended.

    Raises the most telling UpstreamError when all have failed, or at once one that would meet
    every other model as well.
    """
    course = _Course(request, plan, upstreams, record, deployments, terms, afford, first, drain)
    while True:
        result = await course.round()
        if result is not None:
            return result
        await course.pause()


class _Tried(NamedTuple):
    """What came of a deployment in this request so far: how often it was asked, and whether that
    was of a kind that may go well the next time."""

    times: int
    again: bool


class _Course:
    """One request on its way through its plan."""

    def __init__(
        self,
        request: Request,
        plan: tuple[Model, ...],
        upstreams: Mapping[str, Upstream],
        record: Record,
        deployments: Deployments,
        terms: Terms,
        afford: Afford | None,
        first: str | None,
        drain: Drain | None,
    ) -> None:
        self.request, self.plan, self.record = request, plan, record
        self.upstreams, self.deployments = upstreams, deployments
        self.terms, self.afford, self.first = terms, afford, first
        self.deadline = _now() + self._seconds()
        self.tokens = record.expected_input_tokens + _output_tokens(request)
        self.hedging: Hedging | None = None
        if terms.hedge is not None:
            self.hedging = Hedging(
                terms.hedge,
                deployments,
                record,
                tokens=self.tokens,
                stream=request.stream,
                afford=afford,
                drain=drain,
            )
        self.errors: list[UpstreamError] = []
        self.tried: dict[str, _Tried] = {}
        self.waits: dict[str, Wait] = {}
        """What those that were not asked in the last round are waiting for."""
        self.over: set[str] = set()
        """Models that are not asked any more."""
        self.window = 0
        """The request is longer than this many tokens."""
        self.waited = self.backoff = self.again_at = 0.0
        self.forced: DeploymentState | None = None
        """The one that is asked although its breaker is open."""

    def _seconds(self) -> float:
        """How long the request may take from now on."""
        total = self.terms.timeouts.total
        if total is None:
            total = max(
                self.upstreams[deployment.upstream].timeouts.total
                for model in self.plan
                for deployment in model.deployments
            )
        asked = self.request.asked.total_seconds
        total = total if asked is None else min(asked, total)
        return total - (perf_counter() - self.request.received)

    def _retries(self, state: DeploymentState) -> Retries:
        return self.terms.retries or state.policy.retries

    def _attempts(self, state: DeploymentState) -> int:
        """How often it may be asked again."""
        most, asked = self._retries(state).attempts, self.request.asked.retries
        return most if asked is None else min(most, asked)

    def _models(self) -> Iterator[Model]:
        """Those that may serve yet."""
        for model in self.plan:
            if model.name in self.over:
                continue
            if self.window and model.context_window and model.context_window <= self.window:
                continue
            yield model

    # --- a round -----------------------------------------------------------------------------

    async def round(self) -> Whole | Opened | None:
        """Ask each that can be asked now; None if none has answered.

        Raises an UpstreamError that is final.
        """
        forced, self.forced = self.forced, None
        self.waits.clear()
        known = set(self.tried)
        for model in self._models():
            order = self.deployments.order(model, stream=self.request.stream, first=self.first)
            for state in order:
                if model.name in self.over:
                    break
                if forced is not None and state is not forced:
                    continue
                if state.name in self.tried and state.name not in known:
                    continue  # it was asked beside another one
                if not self._is_due(state, forced=forced is not None):
                    continue
                if self.afford is not None and not await self.afford(model):
                    self.over.add(model.name)
                    break
                seat = self._seat(state, forced=forced is not None)
                if seat is None:
                    continue
                result = await self._try(Entry(model, state, seat))
                if result is not None:
                    return result
        return None

    async def _try(self, entry: Entry) -> Whole | Opened | None:
        """Ask one, and another beside it if that is wanted and it is late; None if it has not
        answered. Raises an UpstreamError that is final."""
        model, state, seat = entry
        late = None if self.hedging is None else self.hedging.late_after(model, state)
        if self.hedging is not None and late is not None:
            return await self.hedging.ask(
                entry,
                late,
                ask=self._ask,
                failed=self._failed,
                models=self._models,
                tried=self.tried,
            )
        try:
            return await self._ask(model, seat)
        except UpstreamError as error:
            self._failed(model, state, error)
        return None

    def _is_due(self, state: DeploymentState, *, forced: bool) -> bool:
        """Whether it is a deployment's turn, if it has room."""
        tried = self.tried.get(state.name)
        if tried is not None and not (tried.again and tried.times <= self._attempts(state)):
            return False
        if tried is not None and _now() < self.again_at:
            return False
        shut = state.shut()
        return shut is None or (forced and shut.reason == "open")

    def _seat(self, state: DeploymentState, *, forced: bool) -> Seat | None:
        """Room for one attempt at a deployment whose turn it is."""
        tried = self.tried.get(state.name)
        if tried is not None and not state.budget.withdraw():
            self.deployments.retried(state, sent=False)
            self.tried[state.name] = tried._replace(again=False)
            return None
        seat = state.admit(self.tokens, stream=self.request.stream, forced=forced)
        if isinstance(seat, Wait):
            if tried is not None:
                state.budget.deposit(1.0)
            self.waits[state.name] = seat
            return None
        if tried is not None:
            self.deployments.retried(state, sent=True)
            return seat
        state.budget.deposit(self._retries(state).budget_share)
        if self.terms.hedge is not None:
            state.hedges.deposit(self.terms.hedge.budget_share)
        return seat

    async def _ask(self, model: Model, seat: Seat) -> Whole | Opened:
        """Raises UpstreamError."""
        # A reload meanwhile may have given its name to another place, at an upstream unknown here.
        seat.deployment = model.place(seat.deployment.name)
        upstream = self.upstreams[seat.deployment.upstream]
        usual = upstream.timeouts.under(self.terms.timeouts)
        left = self.deadline - _now()
        if left <= 0:
            seat.end("unknown", 0)
            self.over.update(model.name for model in self.plan)
            raise UpstreamTimeout("The request's time was over before it could be sent.")
        times = usual.at_most(total=left, first_byte=self.request.asked.first_token_seconds)
        return await ask(self.request, model, seat, upstream, times, usual, self.record)

    def _failed(self, model: Model, state: DeploymentState, error: UpstreamError) -> None:
        """Note a failure; raises it if it is the last word."""
        tried = self.tried.get(state.name)
        self.tried[state.name] = _Tried(1 + (tried.times if tried else 0), error.again)
        self.errors.append(error)
        if isinstance(error, UpstreamRateLimited) or error.wait_seconds is not None:
            state.cool_down(error.wait_seconds)
        match error:
            case ContextTooLong():
                self.over.add(model.name)
                # What is served may be less than what is stated, and is all that is shown.
                known = [each for each in (model.context_window, error.window) if each]
                self.window = max(self.window, min(known, default=0))
            case ContentRefused() if self.terms.on_content_refusal == "next_model":
                self.over.add(model.name)
            case _ if not error.moves_on:
                raise error

    # --- between rounds ----------------------------------------------------------------------

    async def pause(self) -> None:
        """Wait until something may serve. Raises an UpstreamError if nothing will, in time."""
        ahead: dict[DeploymentState, float] = {}
        left_alone: list[tuple[int, DeploymentState]] = []
        soonest = _LONGEST_TOLD_SECONDS
        for place, state in self._remaining():
            tried = state.name in self.tried
            wait = self._no_room(state) or state.shut()
            if wait is not None and wait.reason == "open":
                if not tried:
                    left_alone.append((place, state))
                continue
            seconds = 0.0 if wait is None else wait.seconds
            soonest = min(soonest, seconds)
            if seconds <= self._retries(state).wait_seconds - self.waited:
                ahead[state] = self._apart(state, seconds)
        if left_alone and not (ahead and self.tried):
            # Nothing is to fail untried: one after the other is asked all the same.
            self.forced = min(left_alone, key=_last_resort)[1]
            return
        now = _now()
        self._back_off([state for state in ahead if state.name in self.tried])
        for state, seconds in ahead.items():
            if state.name in self.tried:
                ahead[state] = max(seconds, self.again_at - now)
        if not ahead or min(ahead.values()) >= self.deadline - now:
            raise self._most_telling(soonest)
        full = [s for s in ahead if (room := self._no_room(s)) and room.reason == "full"]
        await self._sleep(min(ahead.values()), full)

    def _remaining(self) -> Iterator[tuple[int, DeploymentState]]:
        """What was not asked yet, or may be asked again, with its model's place in the plan."""
        for place, model in enumerate(self._models()):
            for state in self.deployments.of(model):
                tried = self.tried.get(state.name)
                if tried is None or (tried.again and tried.times <= self._attempts(state)):
                    yield place, state

    def _back_off(self, again: list[DeploymentState]) -> None:
        """Set when those that failed may be asked again."""
        if again and _now() >= self.again_at:
            terms = self._retries(again[0])
            self.backoff = decorrelated(
                self.deployments.random, terms.base_seconds, terms.max_seconds, self.backoff
            )
            self.again_at = _now() + self.backoff

    def _apart(self, state: DeploymentState, seconds: float) -> float:
        """A little more than the moment that was named to all who wait, or they would all come at
        once and be sent away again."""
        if not seconds:
            return 0.0
        return seconds + self.deployments.random.uniform(0.0, self._retries(state).base_seconds)

    def _no_room(self, state: DeploymentState) -> Wait | None:
        """What its limits said in the last round; whether it is open or cools down is seen now."""
        wait = self.waits.get(state.name)
        return wait if wait is not None and wait.reason in ("limit", "full") else None

    async def _sleep(self, seconds: float, full: list[DeploymentState]) -> None:
        """So long, or until one of those that are full has room."""
        started = perf_counter()
        vacancies = [state.vacancy() for state in full]
        try:
            if vacancies:
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(vacancies, timeout=seconds, return_when=first)
            else:
                await asyncio.sleep(seconds)
        finally:
            for state, vacancy in zip(full, vacancies, strict=True):
                state.leave_queue(vacancy)
            self.waited += perf_counter() - started
            # It is nobody's time but the upstreams'.
            self.record.upstream_seconds += perf_counter() - started

    def _most_telling(self, soonest: float) -> UpstreamError:
        """429 only if every upstream said so: a client waits for a 429, and retries a 5xx. What a
        provider thinks of the content is more telling than any failure."""
        for error in self.errors:
            if isinstance(error, ContentRefused):
                return error
        others = [one for one in self.errors if one.code != UpstreamRateLimited.code]
        if others or self.errors:
            return (others or self.errors)[-1]
        told = soonest < _LONGEST_TOLD_SECONDS
        return UpstreamRateLimited(
            "No deployment that could serve this request has room for it now.",
            headers=[("retry-after", str(max(ceil(soonest), 1)))] if told else [],
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _last_resort(left_alone: tuple[int, DeploymentState]) -> tuple[float, ...]:
    """The order in which to ask what is open: first whose last probe went well, last whose last
    one failed; then as in the plan; of one model the one that failed least, or whose time is over
    first."""
    place, state = left_alone
    breaker = state.breaker
    doubt = {True: 0, None: 1, False: 2}[breaker.probed_well]
    return doubt, place, breaker.window.counts().error_ratio, breaker.until or 0.0


def _output_tokens(request: Request) -> int:
    payload = request.payload
    said = payload.get("max_completion_tokens") or payload.get("max_tokens")
    return (said or _USUAL_OUTPUT_TOKENS) * (payload.get("n") or 1)
