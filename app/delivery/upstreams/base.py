"""The seam to provider endpoints: one call, one answer, our own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Answer(Protocol):
    """An upstream's answer whose head has arrived."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamTimeout, UpstreamCut or MalformedReply (too large)."""
        ...

    def blocks(self) -> AsyncIterator[bytes]:
        """The body as it comes in. Raises UpstreamTimeout or UpstreamCut."""
        ...

    def close(self) -> None:
        """Give the connection up; an unfinished answer is cancelled at the upstream."""
        ...


class Upstream(Protocol):
    """One provider endpoint."""

    name: str
    stream_usage: bool
    """It may be asked for the usage of a stream."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a JSON body and wait for the head of the answer.

        Raises ConnectFailed, UpstreamTimeout or UpstreamCut; any status is an answer.
        """
        ...
