"""Holds many slow streams open in a process of its own, and tells how they fared.

    python -m benchmarks.holding PORT MODEL COUNT

Streams are begun evenly over a few seconds, so that their chunks do not all come at one moment. It
prints `open` when each has had its first chunk; when its standard input is closed it prints what
came, as JSON, and hangs up.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import orjson
import uvloop

_BEGUN_PER_SECOND = 200
_EVENT = b"data: "


@dataclass
class Held:
    """What came of all streams together."""

    first: int = 0
    chunks: int = 0
    broken: int = 0
    gaps: list[float] = field(default_factory=list)
    """Seconds between two chunks of one stream, in the order in which they came."""

    def told(self, seconds: float) -> dict[str, float]:
        gaps = sorted(self.gaps) or [0.0]
        return {
            "streams": self.first,
            "broken": self.broken,
            "chunks": self.chunks,
            "chunks_per_second": self.chunks / seconds,
            "gap_p50_ms": 1e3 * gaps[len(gaps) // 2],
            "gap_p99_ms": 1e3 * gaps[len(gaps) * 99 // 100],
            "gap_max_ms": 1e3 * gaps[-1],
        }


class Stream(asyncio.Protocol):
    """One request whose answer is only counted."""

    def __init__(self, request: bytes, held: Held) -> None:
        self._request, self._held = request, held
        self._last = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        events = data.count(_EVENT)
        if not events:
            return
        now = time.perf_counter()
        if self._last:
            self._held.gaps.append(now - self._last)
        else:
            self._held.first += 1
        self._last = now
        self._held.chunks += events

    def connection_lost(self, exc: Exception | None) -> None:
        self._held.broken += 1


async def hold(port: int, model: str, count: int) -> dict[str, float]:
    """Open the streams and keep them until standard input ends."""
    loop = asyncio.get_running_loop()
    held = Held()
    body = orjson.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    )
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    started = loop.time()
    for number in range(count):
        await asyncio.sleep(max(started + number / _BEGUN_PER_SECOND - loop.time(), 0))
        await loop.create_connection(lambda: Stream(request, held), "127.0.0.1", port)
    while held.first < count:
        if held.broken:
            raise ConnectionError(f"{held.broken} of {count} streams broke at the beginning")
        await asyncio.sleep(0.01)
    held.gaps.clear()
    held.chunks, begun = 0, loop.time()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return held.told(loop.time() - begun)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.disable()
    port, model, count = sys.argv[1:]
    print(orjson.dumps(uvloop.run(hold(int(port), model, int(count)))).decode())
