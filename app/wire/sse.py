"""Server-sent events: cutting a byte stream at event boundaries, and reading an event's data.

The relay forwards whole blocks of events and looks inside only where it must, so the work per
chunk stays a few searches in C.
"""

from __future__ import annotations

import re

from app.errors import MalformedReply

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"[DONE]"

_BOUNDARY = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")


class EventBuffer:
    """Holds back the unfinished tail of a stream."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Take what came in; give all whole events, b"" if there is none yet.

        Raises MalformedReply when one event grows past every bound.
        """
        if self._tail:
            data = self._tail + data
        end = data.rfind(b"\n\n")
        end = end + 2 if end >= 0 else 0
        if b"\r\n\r\n" in data:
            end = max(end, data.rfind(b"\r\n\r\n") + 4)
        self._tail = data[end:]
        if len(self._tail) > MAX_EVENT_BYTES:
            raise MalformedReply("The upstream's stream has an event without an end.")
        return data[:end] if self._tail else data

    @property
    def tail(self) -> bytes:
        """What came after the last whole event."""
        return self._tail


def split(block: bytes) -> list[bytes]:
    """The single events of a block, each with its blank line."""
    return [part for part in _BOUNDARY.split(block) if part]


def data_of(event: bytes) -> bytes:
    """The data of one event, its lines joined; b"" for a comment."""
    return b"\n".join(
        line[6:] if line[5:6] == b" " else line[5:]
        for line in event.splitlines()
        if line.startswith(b"data:")
    )


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
