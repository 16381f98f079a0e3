"""A request as it came in; the original body is kept so that each attempt can start from it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from app.exchange.terms import NOTHING_ASKED, Asked


@dataclass(slots=True)
class Request:
    """One chat request.

    `payload` is `body` parsed once; nobody changes either. On the monotonic clock, `started` is
    when the request arrived and `received` when its body was whole: a slow upload is not our time.
    """

    id: str
    body: bytes
    payload: dict[str, Any]
    model: str
    stream: bool
    started: float
    received: float
    debug: bool = False
    traceparent: str | None = None
    """The client's, as W3C Trace Context has it."""
    include_usage: bool = False
    """The client asked for the usage chunk of its stream itself."""
    asked: Asked = NOTHING_ASKED
    session: str | None = None
    """The conversation that the client says this belongs to; also None where nobody asks."""
    cache_control: str | None = None
    """The header of this name; None where nothing is cached."""

    def seconds_left(self) -> float | None:
        """Of what the client allows; None where it sets no end."""
        total = self.asked.total_seconds
        return None if total is None else total - (perf_counter() - self.received)
