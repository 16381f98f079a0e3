"""An upstream's status as one of our errors: what may be shown of it, and who may serve yet."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from time import time

from app.delivery.upstreams.base import Upstream
from app.errors import (
    ContentRefused,
    ContextTooLong,
    MalformedReply,
    UpstreamError,
    UpstreamNotFound,
    UpstreamRateLimited,
    UpstreamRefusedRequest,
    UpstreamRejectedKey,
    UpstreamServerError,
    UpstreamTimeout,
)
from app.wire import openai_chat, refusals
from app.wire.waits import retry_after, wait_seconds

_KEY_CODES = frozenset({"invalid_api_key", "invalid_authentication"})
_MAY_BE_OF_REQUEST = frozenset({400, 403, 413, 422, 451, 500})
"""llama.cpp has said 500 to what is too long, xAI and OpenRouter 403 to what they moderate."""


def error_of(
    upstream: Upstream, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError:
    """Our error for a status that is not 200. It was not charged."""
    error = _of_request(upstream, status, body) or _of_status(upstream, status, headers, body)
    error.charged = False
    if status >= 500:
        error.wait_seconds = retry_after(headers, time())
    elif status == 429:
        error.wait_seconds = wait = wait_seconds(headers, body, time())
        if wait is not None and not error.headers:
            error.headers = (("retry-after", str(max(ceil(wait), 1))),)
    return error


def _of_request(upstream: Upstream, status: int, body: bytes) -> UpstreamError | None:
    """What providers say of a request's length or content, under whatever status."""
    if status not in _MAY_BE_OF_REQUEST or upstream.mentions_secret(body):
        return None
    about = refusals.about(body)
    if about is None:
        return None
    message = f"Upstream `{upstream.name}` refused the request ({status})."
    told = status if status < 500 else 400
    if isinstance(about, refusals.TooLong):
        return ContextTooLong(message, status=told, body=body, window=about.window)
    return ContentRefused(message, status=told, body=body)


def _of_status(
    upstream: Upstream, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError:
    name = upstream.name
    match status:
        case 401 | 402 | 403 | 407:
            return UpstreamRejectedKey(f"Upstream `{name}` refused the gateway's credentials.")
        case 404 | 405 | 426:
            return UpstreamNotFound(f"Upstream `{name}` does not know the model or the address.")
        case 408:
            late = UpstreamTimeout(f"Upstream `{name}` gave up waiting (408).")
            late.again = True
            return late
        case 429:
            wait = headers.get("retry-after")
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
    # Too large for one may fit another.
    message = f"Upstream `{name}` refused the request ({status})."
    return UpstreamRefusedRequest(message, status=status, body=body, moves_on=status == 413)
