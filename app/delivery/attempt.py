"""One attempt: a request given to one model, up to the point where the client may see something.

For a stream that point is the first event: until then another model can take over unseen.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.catalog.model import Deployment, Model
from app.delivery.deployment import Seat
from app.delivery.refusals import error_of
from app.delivery.upstreams.base import Answer, Timeouts, Upstream
from app.errors import MalformedReply, UpstreamError
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.wire import openai_chat
from app.wire.openai_chat import StreamReader
from app.wire.sse import EventBuffer

_PATH = "/chat/completions"
_EXPLANATION_BYTES = 1024 * 1024
_EXPLANATION_SECONDS = 2.0
"""For the body of an error once its head is there. Nobody should wait long to hear of a failure
that another model can make good."""


@dataclass(slots=True)
class Whole:
    """A complete answer."""

    body: bytes
    usage: Usage | None
    usage_fault: str | None = None
    """What was wrong with the usage that was reported."""


@dataclass(slots=True)
class Opened:
    """A stream whose first event has come; `first` is that block, not yet passed on."""

    upstream: Upstream
    answer: Answer
    buffer: EventBuffer
    reader: StreamReader
    first: bytes
    seat: Seat | None = None
    """Its place at the deployment; who closes the stream ends it."""


async def attempt(
    request: Request, model: Model, deployment: Deployment, upstream: Upstream, timeouts: Timeouts
) -> Whole | Opened:
    """Give the request to a deployment of a model. Raises an UpstreamError."""
    body = openai_chat.body_for(request, deployment.upstream_id, ask_usage=upstream.stream_usage)
    answer = await upstream.post(_PATH, body, timeouts)
    try:
        if answer.status != 200:
            raise error_of(upstream, answer.status, answer.headers, await _explanation(answer))
        if request.stream:
            return await _open(request, model, answer, upstream)
        whole = await answer.read()
        withhold_secrets(upstream, whole)
        return Whole(*openai_chat.read_reply(whole, model.name))
    except BaseException:
        # Also when the client hung up: the upstream must stop working for nobody.
        answer.close()
        raise


async def _explanation(answer: Answer) -> bytes:
    """The body of an error, b"" if it does not come: its status says enough to go on."""
    try:
        async with asyncio.timeout(_EXPLANATION_SECONDS):
            return await answer.read(_EXPLANATION_BYTES)
    except (UpstreamError, TimeoutError):
        answer.close()
        return b""


async def _open(request: Request, model: Model, answer: Answer, upstream: Upstream) -> Opened:
    """Read up to and including the first event."""
    reader = StreamReader(model.name, hide_usage=not request.include_usage)
    buffer = EventBuffer()
    early = b""
    while data := await answer.block():
        whole = buffer.feed(data)
        if not whole:
            continue
        early += whole
        withhold_secrets(upstream, whole)
        if reader.open(whole):
            answer.begin()
            return Opened(upstream, answer, buffer, reader, early)
    raise MalformedReply("The upstream's stream ended before its first chunk.")


def withhold_secrets(upstream: Upstream, whole: bytes) -> None:
    """Raises MalformedReply for an answer that quotes what the gateway sent with the request."""
    if upstream.mentions_secret(whole):
        raise MalformedReply(
            f"Upstream `{upstream.name}` quoted the gateway's credentials; its answer is withheld."
        )
