"""Where a request stands in a distributed trace (W3C Trace Context), and the calls made for it.

Only ids and times: what spans say is read from the record when it is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import getrandbits
from time import perf_counter
from types import MappingProxyType

from app.exchange.record import Attempt

Place = Mapping[str, str | int]
"""What a trace says of an upstream: its provider, address and port, by the names of the
semantic conventions."""

outgoing: ContextVar[Mapping[str, str]] = ContextVar("outgoing", default=MappingProxyType({}))
"""Headers that go with what this task sends to an upstream, beside the upstream's own: handing them
from attempt to transport would lead through everything between."""


@dataclass(slots=True)
class Call:
    """An attempt as a span of its own; `began` is on the clock that only runs."""

    attempt: Attempt
    model_id: str
    place: Place
    began: float
    span_id: int


@dataclass(slots=True)
class Trace:
    """Ids as the numbers they are; `parent_id` is the client's span, None if it sent none.

    `propagates` says whether upstreams are told.
    """

    trace_id: int
    span_id: int
    parent_id: int | None
    sampled: bool
    propagates: bool
    asked: Mapping[str, str | int | float] = field(default_factory=dict)
    """The request's own parameters, by the names that spans have for them."""
    messages: str | None = None
    """What was asked, as spans show it; only where they are to."""
    calls: list[Call] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The trace's id as logs and headers write it."""
        return f"{self.trace_id:032x}"

    def call(self, attempt: Attempt, model_id: str, place: Place) -> None:
        """An attempt begins in this task; what it sends bears `outgoing`."""
        call = Call(attempt, model_id, place, perf_counter(), getrandbits(64) or 1)
        self.calls.append(call)
        if self.propagates:
            parent = f"00-{self.id}-{call.span_id:016x}-{self.sampled:02x}"
            outgoing.set({"traceparent": parent})
