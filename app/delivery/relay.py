"""Relaying an opened stream: block by block as it comes, with the client setting the pace.

After the first byte nothing can be taken back: what fails then is told as an SSE error event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from app.delivery.attempt import Opened
from app.errors import UpstreamError
from app.wire import sse
from app.wire.openai_chat import error_body


class Relay:
    """Hands an opened stream on. `ended` is called once, with the outcome, however it ends."""

    def __init__(self, opened: Opened, ended: Callable[[str], None]) -> None:
        self._opened = opened
        self._ended: Callable[[str], None] | None = ended
        self._outcome = "client_gone"

    async def events(self) -> AsyncIterator[bytes]:
        """Blocks of whole events for the client."""
        reader, buffer = self._opened.reader, self._opened.buffer
        try:
            if block := reader.feed(self._opened.first):
                yield block
            async for data in self._opened.blocks:
                whole = buffer.feed(data)
                if whole and (block := reader.feed(whole)):
                    yield block
            if buffer.tail.strip():
                # A last event without its blank line: complete it rather than lose it.
                yield reader.feed(buffer.tail.rstrip(b"\r\n") + b"\n\n")
            self._outcome = "failed" if reader.failed else "ok"
        except UpstreamError as error:
            self._outcome = error.outcome
            yield sse.event(error_body(error.message, error.type, None, error.code))

    def close(self) -> None:
        """Must be called by who reads: cancels the upstream if it is still at work, and settles.

        Not left to the generator: one that was never started would not run its `finally`.
        """
        self._opened.answer.close()
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended(self._outcome)
