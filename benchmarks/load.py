"""A load generator that costs little, believes no answer unread, and runs in a process of its own.

It keeps a fixed number of keep-alive connections busy for a time or a number of requests. An
answer counts only if its status is 200 and its body is whole; every other one is an error, and
errors never count as speed.

    python -m benchmarks.load --port 9000 --model fast --concurrency 16 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import cast

import orjson
import uvloop

from benchmarks.chunked import ChunkedDecoder, MalformedChunk
from benchmarks.fast_upstream import ANSWER_MARK
from benchmarks.prompts import PROMPT_KINDS, Prompts, bodies

_MARK = ANSWER_MARK.encode()
_ERRORS_SHOWN = 5
_ERRORS_BORNE = 100


@dataclass(frozen=True)
class Load:
    """What to send, how much of it and where."""

    port: int
    model: str
    host: str = "127.0.0.1"
    path: str = "/v1/chat/completions"
    api_key: str = "sk-benchmark"
    concurrency: int = 1
    seconds: float | None = None
    count: int | None = None
    prompts: Prompts = "fixed"
    seed: int = 1
    stream: bool = False
    chunks: int = 0
    """Fewest chunks that a whole stream has."""
    patience_seconds: float = 30.0
    """How long past its end the load waits for answers that are still to come."""


@dataclass(frozen=True)
class Percentiles:
    """Of a sample of durations, in milliseconds."""

    p50: float
    p99: float
    mean: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles | None:
        if not seconds:
            return None
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(
            p50=ordered[round(0.50 * last)] * 1e3,
            p99=ordered[round(0.99 * last)] * 1e3,
            mean=sum(ordered) / len(ordered) * 1e3,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a load. `chunks` counts stream events but for the closing [DONE]."""

    requests: int
    errors: int
    seconds: float
    latency: Percentiles | None
    first_chunk: Percentiles | None = None
    chunks: int = 0
    error_samples: tuple[str, ...] = ()

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass
class Tally:
    """What all connections of one load share: what is left to send and what came back."""

    load: Load
    next_body: Iterator[bytes]
    started: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    first_chunks: list[float] = field(default_factory=list)
    chunks: int = 0
    errors: int = 0
    error_samples: list[str] = field(default_factory=list)

    def take(self) -> bytes | None:
        """The next request as it goes out on the wire, or None when the load is over."""
        load = self.load
        if self.errors >= _ERRORS_BORNE:
            return None
        if load.count is not None and self.sent >= load.count:
            return None
        if load.seconds is not None and time.perf_counter() - self.started >= load.seconds:
            return None
        self.sent += 1
        body = next(self.next_body)
        head = (
            f"POST {load.path} HTTP/1.1\r\nHost: {load.host}:{load.port}\r\n"
            f"Authorization: Bearer {load.api_key}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def fail(self, why: str) -> None:
        self.errors += 1
        self.ended = time.perf_counter()
        if len(self.error_samples) < _ERRORS_SHOWN:
            self.error_samples.append(why)

    def outcome(self) -> Outcome:
        return Outcome(
            requests=len(self.latencies),
            errors=self.errors,
            seconds=max(self.ended - self.started, 0.0),
            latency=Percentiles.of(self.latencies),
            first_chunk=Percentiles.of(self.first_chunks),
            chunks=self.chunks,
            error_samples=tuple(self.error_samples),
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its whole answer, the next request."""

    def __init__(self, tally: Tally) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = False
        self._tally = tally
        self._transport = cast("asyncio.Transport", None)
        self._waiting = False
        self._head = b""
        self._left = 0
        self._body: list[bytes] = []
        self._status = b""
        self._decoder: ChunkedDecoder | None = None
        self._in_body = False
        self._events = 0
        self._event_tail = b""
        self._sent_at = 0.0
        self._first_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._waiting = False
            self._tally.fail(f"connection lost before the answer was whole: {error}")
        if not self.closed.done():
            self.closed.set_result(None)

    def abandon(self) -> None:
        """The load is over and patience too: an answer still to come is an error."""
        if self._waiting:
            self._waiting = False
            self._tally.fail("no answer in time")
        self._transport.abort()

    def _send(self) -> None:
        request = self._tally.take()
        if request is None:
            self.over = True
            self._transport.close()
            return
        self._waiting, self._in_body = True, False
        self._head, self._body, self._decoder = b"", [], None
        self._events, self._event_tail, self._first_at = 0, b"", 0.0
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            data = self._read_head(data)
            if not self._in_body:
                return
        if self._decoder is None:
            self._left -= len(data)
            self._body.append(data)
            if self._left <= 0:
                self._complete()
            return
        try:
            payload = self._decoder.feed(data)
        except MalformedChunk as error:
            self._broken(f"malformed chunked body: {error}")
            return
        if self._tally.load.stream and self._status == b"200":
            self._count_events(payload)
        else:
            self._body.append(payload)
        if self._decoder.done:
            self._complete()

    def _read_head(self, data: bytes) -> bytes:
        """Reads status and framing once the head is whole; gives what follows it."""
        if not self._waiting:
            self._broken("bytes without a request")
            return b""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        self._status = head[9:12]
        head = head.lower()
        _, found, value = head.partition(b"\r\ncontent-length:")
        if found:
            self._left = int(value.partition(b"\r\n")[0])
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._decoder = ChunkedDecoder()
        else:
            self._broken(f"an answer without framing: {head[:200]!r}")
            return b""
        self._in_body = True
        return rest

    def _count_events(self, payload: bytes) -> None:
        """Counts whole events; an event may be spread over many reads."""
        text = self._event_tail + payload
        last = text.rfind(b"\n\n")
        if last < 0:
            self._event_tail = text
            return
        if not self._first_at:
            self._first_at = time.perf_counter()
        self._events += text.count(b"\n\n")
        self._event_tail = text[last + 2 :]
        self._body = [text[-32:]]

    def _complete(self) -> None:
        now = time.perf_counter()
        tally = self._tally
        why = self._fault()
        self._waiting = False
        if why:
            tally.fail(why)
        else:
            tally.ended = now
            tally.latencies.append(now - self._sent_at)
            if tally.load.stream:
                tally.first_chunks.append(self._first_at - self._sent_at)
                tally.chunks += self._events - 1
        self._send()

    def _fault(self) -> str | None:
        """Why this answer isn't a whole and right one, if it isn't."""
        body = b"".join(self._body)
        if self._status != b"200":
            return f"status {self._status.decode()}: {body[:200]!r}"
        if self._left < 0:
            return "more bytes than content-length said"
        if not self._tally.load.stream:
            whole = _MARK in body and body.rstrip().endswith(b"}")
            return None if whole else f"not the answer that was sent: {body[:200]!r}"
        if self._event_tail or not body.endswith(b"data: [DONE]\n\n"):
            return f"the stream doesn't end right: {body[-200:]!r} {self._event_tail[:200]!r}"
        if self._events - 1 < self._tally.load.chunks:
            return f"{self._events - 1} chunks where {self._tally.load.chunks} were sent"
        return None

    def _broken(self, why: str) -> None:
        self._waiting = False
        self._tally.fail(why)
        self._transport.abort()


async def run(load: Load) -> Outcome:
    """Sends the load and waits for its answers. A connection that is lost is opened again."""
    if load.seconds is None and load.count is None:
        raise ValueError("a load needs seconds or a count")
    tally = Tally(load, bodies(load.prompts, model=load.model, stream=load.stream, seed=load.seed))
    lanes = [asyncio.ensure_future(_lane(tally)) for _ in range(load.concurrency)]
    await asyncio.gather(*lanes)
    return tally.outcome()


async def _lane(tally: Tally) -> None:
    load = tally.load
    loop = asyncio.get_running_loop()
    while tally.errors < _ERRORS_BORNE:
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(tally), load.host, load.port
            )
        except OSError as error:
            tally.fail(f"no connection: {error}")
            return
        limit = None
        if load.seconds is not None:
            limit = tally.started + load.seconds + load.patience_seconds - time.perf_counter()
        await asyncio.wait([connection.closed], timeout=limit)
        if not connection.closed.done():
            connection.abandon()
            return
        if connection.over:
            return


def _arguments() -> Load:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-key", default="sk-benchmark")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--prompts", choices=PROMPT_KINDS, default="fixed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--chunks", type=int, default=0, help="fewest that a whole stream has")
    parser.add_argument("--patience-seconds", type=float, default=30.0)
    return Load(**vars(parser.parse_args()))


if __name__ == "__main__":
    asked = _arguments()
    gc.collect()
    gc.freeze()
    gc.disable()
    print(orjson.dumps(asdict(uvloop.run(run(asked)))).decode())
