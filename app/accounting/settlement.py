"""Settling: what a request cost, what it gives back of its limits, what is counted and kept of it.

Once a request, whichever way it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from app.accounting.charges import charge
from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter
from app.catalog.model import Model
from app.exchange.record import Record
from app.exchange.request import Request
from app.telemetry.logs import current, log
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.telemetry.tracing import Traces  # which loads OpenTelemetry


class Decided(Protocol):
    """What settling asks of a decision."""

    @property
    def baseline(self) -> Model | None:
        """What savings are measured against."""
        ...

    def correct(self, record: Record) -> None:
        """Book its true cost instead of the expected one."""
        ...


@dataclass(slots=True)
class Settlement:
    """Begins the record of each request, and settles it. `ledger` is None where none is kept."""

    models: Mapping[str, Model]
    metrics: Metrics
    limits: Limiter
    ledger: Ledger | None = None
    traces: Traces | None = None
    observers: tuple[Callable[[Record], None], ...] = ()
    """Told of every settled request; they must be quick."""
    _warned: set[str] = field(default_factory=set)
    """What has been told of models' prices and reports."""

    def begin(self, request_id: str, started: float, received: float) -> Record:
        """The record of a request that is under way from now on."""
        self.metrics.in_flight.inc()
        record = Record(request_id, started, received)
        current.set(record)
        return record

    def trace(
        self, record: Record, traceparent: str | None, request: Request | None = None
    ) -> None:
        """Give it its place in a trace, where there are traces. What was refused unread has no
        `request`."""
        if self.traces is not None:
            record.trace = self.traces.begin(traceparent, request)

    def settle(self, record: Record, decision: Decided | None, outcome: str, status: int) -> None:
        """Book a request that has ended. Never raises."""
        record.outcome, record.status = outcome, status
        now = perf_counter()
        record.duration_seconds = now - record.started
        if record.attempts:
            visible = record.first_token_seconds or now - record.received
            record.overhead_seconds = max(visible - record.upstream_seconds, 0.0)
        self.metrics.in_flight.dec()
        # A bug in one of these must not keep the others from it, least of all from giving back what
        # the request held.
        for step in (
            self._charge, self._correct, self._give_back, self._count, self._keep, self._tell
        ):  # fmt: skip
            try:
                step(record, decision)
            except Exception as error:  # noqa: BLE001
                log.exception("request %s was not settled whole", record.request_id, exc_info=error)

    def _charge(self, record: Record, decision: Decided | None) -> None:
        for doubt in charge(record, self.models, decision.baseline if decision else None):
            if doubt.key not in self._warned:
                self._warned.add(doubt.key)
                log.warning("%s", doubt.message)

    def _correct(self, record: Record, decision: Decided | None) -> None:
        if decision is not None:
            decision.correct(record)

    def _give_back(self, record: Record, _: Decided | None) -> None:
        self.limits.settle(record)

    def _count(self, record: Record, _: Decided | None) -> None:
        self.metrics.settle(record)

    def _keep(self, record: Record, _: Decided | None) -> None:
        # Of who sends no key, what never had a route is not kept: anybody could fill the disk.
        if self.ledger is not None and (record.route != "none" or record.key_id is not None):
            self.ledger.append(record)

    def _tell(self, record: Record, _: Decided | None) -> None:
        for observer in self.observers:
            observer(record)
