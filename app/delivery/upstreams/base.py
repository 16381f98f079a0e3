"""The seam to provider endpoints: one call, one answer, our own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.exchange.terms import Timeouts as Timeouts
from app.exchange.trace import Place


class Answer(Protocol):
    """An upstream's answer whose head has arrived."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    deadline: float
    """On the loop's clock: when the upstream's total time is over."""

    async def read(self, most: int = ...) -> bytes:
        """The whole body, of at most so many bytes once inflated. Raises UpstreamTimeout,
        UpstreamCut or MalformedReply (too large)."""
        ...

    async def block(self) -> bytes:
        """The next piece of the body as it comes in, b"" at its end.

        Raises UpstreamTimeout or UpstreamCut.

        Until `begin` is called the time for the first byte runs, then the idle time between two.
        """
        ...

    def begin(self) -> None:
        """What the caller was waiting for has come."""
        ...

    def finish(self) -> None:
        """Nothing more is wanted of an answer that is as good as over: read the rest, briefly and
        in the background, so that the connection can serve again."""
        ...

    def close(self) -> None:
        """Give the connection up; an unfinished answer is cancelled at the upstream."""
        ...


class Upstream(Protocol):
    """One provider endpoint."""

    name: str
    stream_usage: bool
    """It may be asked for the usage of a stream."""
    timeouts: Timeouts
    place: Place

    async def post(self, path: str, body: bytes, timeouts: Timeouts | None = None) -> Answer:
        """Send a JSON body and wait for the head of the answer, within other times than the
        upstream's own if they are given.

        Raises ConnectFailed, StaleConnection, UpstreamTimeout or UpstreamCut; any status is an
        answer.
        """
        ...

    def mentions_secret(self, body: bytes) -> bool:
        """Whether a body quotes the credentials that the gateway sends here."""
        ...
