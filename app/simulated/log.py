"""What the upstream received, byte for byte, and whether the other side waited for the answer."""

from __future__ import annotations

import base64
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

_KEPT_EXCHANGES = 1000
_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Exchange:
    """One chat request and what became of it. Times are seconds since the epoch, or, for spans
    between processes of one machine, on its monotonic clock."""

    number: int
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    received_at: float = field(default_factory=time.time)
    model: str | None = None
    status: int | None = None
    events_sent: int = 0
    bytes_sent: int = 0
    finished_at: float | None = None
    disconnected_at: float | None = None
    disconnected_monotonic: float | None = None

    def as_json(self) -> dict[str, Any]:
        try:
            text: str | None = self.body.decode()
        except UnicodeDecodeError:
            text = None
        return {
            "number": self.number,
            "path": self.path,
            "model": self.model,
            "status": self.status,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers
            ],
            "body": text,
            "body_base64": base64.b64encode(self.body).decode(),
            "received_at": self.received_at,
            "finished_at": self.finished_at,
            "disconnected": self.disconnected_at is not None,
            "disconnected_at": self.disconnected_at,
            "disconnected_monotonic": self.disconnected_monotonic,
            "events_sent": self.events_sent,
            "bytes_sent": self.bytes_sent,
        }


class Log:
    """The last exchanges, bounded in number and in bytes."""

    def __init__(
        self, kept_exchanges: int = _KEPT_EXCHANGES, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._kept_exchanges = kept_exchanges
        self._kept_bytes = kept_bytes
        self._bytes = 0
        self._count = 0

    def open(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Exchange:
        """Note a request; the exchange is filled in while it is answered."""
        self._count += 1
        exchange = Exchange(self._count, path, headers, body)
        self._exchanges.append(exchange)
        self._bytes += len(body)
        while len(self._exchanges) > self._kept_exchanges or (
            self._bytes > self._kept_bytes and len(self._exchanges) > 1
        ):
            self._bytes -= len(self._exchanges.popleft().body)
        return exchange

    def last(self, most: int) -> list[Exchange]:
        """The last exchanges, oldest first."""
        return list(self._exchanges)[-most:] if most > 0 else []

    def clear(self) -> None:
        self._exchanges.clear()
        self._bytes = 0
