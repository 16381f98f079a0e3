"""Server-sent events: cutting a byte stream at event boundaries, and reading an event's data.

The relay forwards whole blocks of events and looks inside only where it must, so the work per
chunk stays a few searches in C.
"""

from __future__ import annotations

import re

from app.errors import MalformedReply

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"[DONE]"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: clients skip it, and the connection has not been silent."""

_BOUNDARY = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")


class EventBuffer:
    """Holds back the unfinished tail of a stream."""

    __slots__ = ("_held", "_last", "_size")

    def __init__(self) -> None:
        # In pieces: joined at every one, an event that comes in many would be copied as often.
        self._held: list[bytes] = []
        self._size = 0
        self._last = b""
        """The end of what is held: a boundary may be torn apart."""

    def feed(self, data: bytes) -> bytes:
        """Take what came in; give all whole events, b"" if there is none yet.

        Raises MalformedReply when one event grows past every bound.
        """
        end = _end_of_events(self._last + data) - len(self._last)
        if end <= 0:
            self._hold(data)
            return b""
        whole = data if end == len(data) else data[:end]
        if self._held:
            whole = b"".join([*self._held, whole])
            self._held, self._size, self._last = [], 0, b""
        if end < len(data):
            self._hold(data[end:])
        return whole

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        self._last = (self._last + data)[-3:]
        if self._size > MAX_EVENT_BYTES:
            raise MalformedReply("The upstream's stream has an event without an end.")

    @property
    def tail(self) -> bytes:
        """What came after the last whole event."""
        return b"".join(self._held)


def _end_of_events(data: bytes) -> int:
    """Where the last whole event ends, 0 if none does."""
    end = data.rfind(b"\n\n")
    end = end + 2 if end >= 0 else 0
    if b"\r\n\r\n" in data:
        end = max(end, data.rfind(b"\r\n\r\n") + 4)
    return end


def split(block: bytes) -> list[bytes]:
    """The single events of a block, each with its blank line."""
    if b"\r\n\r\n" in block:
        return [part for part in _BOUNDARY.split(block) if part]
    *events, tail = block.split(b"\n\n")  # twenty times as fast
    return [event + b"\n\n" for event in events] + ([tail] if tail else [])


def data_of(event: bytes) -> bytes:
    """The data of one event, its lines joined; b"" for a comment."""
    return b"\n".join(
        line[6:] if line[5:6] == b" " else line[5:]
        for line in event.splitlines()
        if line.startswith(b"data:")
    )


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
