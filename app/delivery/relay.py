"""Relaying an opened stream: block by block as it comes, with the client setting the pace.

After the first byte nothing can be taken back: what fails then is told as an SSE error event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from app.delivery.attempt import Opened, withhold_secrets
from app.delivery.drain import Drain, stopping
from app.delivery.health import Verdict
from app.errors import (
    GatewayError,
    GatewayStopping,
    UpstreamCut,
    UpstreamError,
    UpstreamReportedError,
)
from app.wire import sse
from app.wire.openai_chat import before_error, error_body, is_whole


class Relay:
    """Hands an opened stream on. `ended` is called once, with the outcome, however it ends:
    `ok`, `client_gone`, an UpstreamError's outcome, `stopped`, or `failed`.

    `raises` hands an upstream's failure to who reads, in place of an error event.
    """

    def __init__(
        self,
        opened: Opened,
        ended: Callable[[str], None],
        drain: Drain | None = None,
        *,
        raises: bool = False,
    ) -> None:
        self._opened = opened
        self._drain = drain or Drain()
        self._raises = raises
        self._ended: Callable[[str], None] | None = ended
        self._outcome = "client_gone"
        self._late = False
        """Its time was over, which may be the client's doing as well."""

    @property
    def deadline(self) -> float:
        """On the loop's clock: when the upstream's total time is over."""
        return self._opened.answer.deadline

    async def events(self) -> AsyncIterator[bytes]:
        """Blocks of whole events for the client."""
        answer, buffer = self._opened.answer, self._opened.buffer
        reader = self._opened.reader
        try:
            block = reader.feed(self._opened.first)
            while True:
                if reader.failed and self._raises:
                    if block := before_error(block):
                        yield block
                    raise UpstreamReportedError("The upstream reported an error in its stream.")
                if block:
                    yield block
                if reader.done:
                    break
                if not (data := await answer.block()):
                    if tail := self._tail():
                        yield tail
                    break
                whole = buffer.feed(data)
                withhold_secrets(self._opened.upstream, whole)
                block = reader.feed(whole) if whole else b""
            if not reader.done and not reader.finished:
                raise UpstreamCut("The upstream's stream ended before its answer did.")
            self._outcome = "failed" if reader.failed else "ok"
        except UpstreamError as error:
            self._outcome = error.outcome
            self._late = asyncio.get_running_loop().time() >= answer.deadline
            if self._raises:
                raise
            yield _told(error)
        except asyncio.CancelledError:
            if not self._drain.over:
                raise
            yield stopped_event()
        except Exception:
            self._outcome = "failed"
            raise

    def _tail(self) -> bytes:
        """A last event without its blank line: completed rather than lost, unless it is broken."""
        tail = self._opened.buffer.tail.strip()
        if not tail or not is_whole(sse.data_of(tail)):
            return b""
        withhold_secrets(self._opened.upstream, tail)
        return self._opened.reader.feed(tail + b"\n\n")

    def close(self) -> None:
        """Must be called by who reads: cancels the upstream if it is still at work, and settles.

        Not left to the generator: one that was never started would not run its `finally`.
        """
        reader, answer = self._opened.reader, self._opened.answer
        if reader.done:
            answer.finish()
        else:
            answer.close()
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        if reader.done and not reader.failed:
            self._outcome = "ok"  # who leaves after the end has had the answer
        elif self._drain.over and self._outcome == "client_gone":
            self._outcome = GatewayStopping.outcome
        try:
            ended(self._outcome)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Give the seat at the deployment back, with how the stream went."""
        if (seat := self._opened.seat) is None:
            return
        usage = self._opened.reader.usage
        verdict: Verdict = "ok" if self._outcome == "ok" else "failed"
        if self._outcome in ("client_gone", GatewayStopping.outcome) or self._late:
            verdict = "unknown"
        seat.end(verdict, None if usage is None else usage.input_tokens + usage.output_tokens)


def stopped_event() -> bytes:
    """The last word to a client whose stream is cut off because the gateway ends."""
    return _told(stopping())


def _told(error: GatewayError) -> bytes:
    return sse.event(error_body(error.message, error.type, None, error.code))
