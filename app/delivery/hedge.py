"""Hedging: when an answer is later than is usual for its deployment, another is asked beside it.

A deployment that is now and then slow, as they all are, then costs a few requests in a hundred
twice their price instead of their patience. Here is when, and whom.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

from app.catalog.model import Model
from app.delivery.deployment import DeploymentState, Seat
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain
from app.delivery.race import Answered, Entry, Race
from app.delivery.terms import Afford
from app.errors import UpstreamError
from app.exchange.record import Record
from app.exchange.terms import Hedge


class Hedging:
    """Of one request, of about so many `tokens`."""

    def __init__(
        self,
        hedge: Hedge,
        deployments: Deployments,
        record: Record,
        *,
        tokens: int,
        stream: bool,
        afford: Afford | None,
        drain: Drain | None,
    ) -> None:
        self._hedge, self._deployments, self._record = hedge, deployments, record
        self._tokens, self._stream = tokens, stream
        self._afford, self._drain = afford, drain

    def late_after(self, model: Model, state: DeploymentState) -> float | None:
        """Seconds after which an answer is late; None if nobody else may be asked, or too little is
        known."""
        if not (self._hedge.models or len(model.deployments) > 1):
            return None
        usual = state.usual(self._hedge.percentile, stream=self._stream)
        return None if usual is None else max(usual, self._hedge.min_seconds)

    async def ask(
        self,
        entry: Entry,
        late_seconds: float,
        *,
        ask: Callable[[Model, Seat], Coroutine[Any, Any, Answered]],
        failed: Callable[[Model, DeploymentState, UpstreamError], None],
        models: Callable[[], Iterable[Model]],
        tried: Container[str],
    ) -> Answered | None:
        """Ask one deployment, and if it is late another one beside it, that was not `tried`, of its
        model or of `models`. See `Race`."""
        race = Race(
            self._record,
            ask=ask,
            another=partial(self._another, entry, models, tried),
            failed=failed,
            told=self._told,
        )
        return await race.run(entry, late_seconds)

    async def _another(
        self, late: Entry, models: Callable[[], Iterable[Model]], tried: Container[str]
    ) -> Entry | None:
        """A place beside a late one, on its budget; None if there is none."""
        if self._drain is not None and self._drain.draining:
            return None
        budget = late.state.hedges
        if not budget.withdraw():
            self._told("over_budget")
            return None
        for model, state in self._others(late, models()):
            if state.name in tried or state.shut() is not None:
                continue
            if self._afford is not None and not await self._afford(model, late.model):
                continue
            seat = state.admit(self._tokens, stream=self._stream)
            if isinstance(seat, Seat):
                return Entry(model, state, seat)
        budget.deposit(1.0)
        self._told("no_room")
        return None

    def _others(
        self, late: Entry, models: Iterable[Model]
    ) -> Iterator[tuple[Model, DeploymentState]]:
        """Those of its own model, then those of the others. Only what is known to be well: a second
        attempt is to be quick, and no probe."""
        others = [one for one in models if one is not late.model] if self._hedge.models else []
        for model in (late.model, *others):
            for state in self._deployments.order(model, stream=self._stream):
                if state is not late.state and state.breaker.until is None:
                    yield model, state

    def _told(self, result: str) -> None:
        self._deployments.hedged(self._record.route, result)
