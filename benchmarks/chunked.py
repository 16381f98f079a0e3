"""Reads HTTP/1.1's chunked transfer coding as the bytes arrive.

The upstream needs it for request bodies and the load generator for answers; both are hot, so it
copies each byte once and never rescans.
"""

from __future__ import annotations


class MalformedChunk(ValueError):
    """A chunk-size line isn't a number, or is longer than any sane one."""


_LONGEST_LINE = 1024


class ChunkedDecoder:
    """Feed it bytes; it gives the payload back. `done` turns true after the last chunk.

    What follows the message (a pipelined one) is left in `rest`.
    """

    __slots__ = ("_left", "_pending", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._pending = b""
        self._left = 0  # payload bytes still to come, with the line end that follows them
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """The payload within `data`. Raises MalformedChunk."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, end, payload = 0, len(data), []
        while at < end and not self.done:
            if self._left:
                take = min(self._left, end - at)
                payload.append(data[at : at + min(take, max(self._left - 2, 0))])
                self._left -= take
                at += take
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if end - at > _LONGEST_LINE:
                    raise MalformedChunk(repr(data[at : at + 40]))
                self._pending = data[at:]
                break
            line = data[at:line_end]
            at = line_end + 2
            if self._trailers:
                self.done = not line
                continue
            size = _size(line)
            self._left = size + 2 if size else 0
            self._trailers = not size
        if self.done:
            self.rest = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)


def _size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise MalformedChunk(repr(line[:40])) from error
    if size < 0:
        raise MalformedChunk(repr(line[:40]))
    return size
