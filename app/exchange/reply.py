"""What goes back to the client: a whole body, or a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class Reply:
    """A complete answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Headers = field(default_factory=list)


@dataclass(slots=True)
class StreamReply:
    """A server-sent event stream; `events` yields bytes that end on event boundaries.

    Who takes it must call `close` when done or gone: it cancels what is left of the upstream's
    work and settles the request.
    """

    events: AsyncIterator[bytes]
    close: Callable[[], None]
    deadline: float | None
    """On the event loop's clock: a client that has not read it all by then is given up. It may
    change with the upstream; None as long as there is none."""
    headers: Headers = field(default_factory=list)
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
