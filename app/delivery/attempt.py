"""One attempt: a request given to one model, up to the point where the client may see something.

For a stream that point is the first event: until then another model can take over unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.catalog.model import Model
from app.delivery.upstreams.base import Answer, Upstream
from app.errors import (
    MalformedReply,
    UpstreamError,
    UpstreamNotFound,
    UpstreamRateLimited,
    UpstreamRefusedRequest,
    UpstreamRejectedKey,
    UpstreamServerError,
    UpstreamTimeout,
)
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.wire import openai_chat
from app.wire.openai_chat import StreamReader
from app.wire.sse import EventBuffer

_PATH = "/chat/completions"
_KEY_CODES = frozenset({"invalid_api_key", "invalid_authentication"})
_TOO_LONG = "context_length_exceeded"


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


async def attempt(request: Request, model: Model, upstream: Upstream) -> Whole | Opened:
    """Give the request to a model. Raises an UpstreamError."""
    body = openai_chat.body_for(request, model.upstream_id, ask_usage=upstream.stream_usage)
    answer = await upstream.post(_PATH, body)
    try:
        if answer.status != 200:
            error = _error(upstream, answer.status, answer.headers, await answer.read())
            error.charged = False
            raise error
        if request.stream:
            return await _open(request, model, answer, upstream)
        whole = await answer.read()
        withhold_secrets(upstream, whole)
        return Whole(*openai_chat.read_reply(whole, model.name))
    except BaseException:
        # Also when the client hung up: the upstream must stop working for nobody.
        answer.close()
        raise


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


def _error(
    upstream: Upstream, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError:
    """Our error for an upstream's status."""
    name = upstream.name
    match status:
        case 401 | 402 | 403 | 407:
            return UpstreamRejectedKey(f"Upstream `{name}` refused the gateway's credentials.")
        case 404 | 405 | 426:
            return UpstreamNotFound(f"Upstream `{name}` does not know the model or the address.")
        case 408:
            return UpstreamTimeout(f"Upstream `{name}` gave up waiting (408).")
        case 429:
            wait = headers.get("Retry-After")
            return UpstreamRateLimited(
                f"Upstream `{name}` is over its rate limit (429).",
                headers=[("retry-after", wait)] if wait and _is_plain(wait) else [],
            )
        case 409 | 425:
            return UpstreamServerError(f"Upstream `{name}` asked to try again ({status}).")
        case _ if status >= 500:
            return UpstreamServerError(f"Upstream `{name}` failed ({status}).")
        case _ if status < 400:
            return MalformedReply(f"Upstream `{name}` answered {status}; it is not followed.")
    return _refusal(upstream, status, body)


def _is_plain(value: str) -> bool:
    """Whether a header of an upstream may become one of ours."""
    return len(value) <= 64 and value.isascii() and value.isprintable()


def _refusal(upstream: Upstream, status: int, body: bytes) -> UpstreamError:
    """A 4xx about the request itself; only such a body may be shown, and only if it tells nothing
    about the gateway's own credentials."""
    name = upstream.name
    error = openai_chat.read_error(body) or {}
    if error.get("code") in _KEY_CODES or upstream.mentions_secret(body):
        return UpstreamRejectedKey(f"Upstream `{name}` refused the gateway's credentials.")
    too_long = status == 413 or error.get("code") == _TOO_LONG
    message = f"Upstream `{name}` refused the request ({status})."
    return UpstreamRefusedRequest(message, status=status, body=body, moves_on=too_long)
