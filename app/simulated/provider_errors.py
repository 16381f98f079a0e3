"""Errors in the shapes in which providers send them: bodies, and what their headers say of waiting.

The shapes are theirs, the words are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_WAIT_SECONDS = 7

Shaped = tuple[Any, dict[str, str]]
"""A body and headers."""


def provider_error(provider: str, status: int) -> Shaped:
    """How a provider answers with a status. KeyError for a provider that is not known."""
    return _SHAPES[provider](status, f"[simulated] {_WORDS.get(status, 'Request failed.')}")


def _openai(status: int, words: str) -> Shaped:
    if status != 429:
        return _envelope(words, "server_error" if status >= 500 else "invalid_request_error"), {}
    body = _envelope(words, "requests", code="rate_limit_exceeded")
    return body, {
        "retry-after": str(_WAIT_SECONDS),
        "retry-after-ms": str(_WAIT_SECONDS * 1000),
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": f"{_WAIT_SECONDS}s",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "186000",
        "x-ratelimit-reset-tokens": "4.2s",
    }


def _openai_quota(status: int, words: str) -> Shaped:
    """Money has run out: waiting is of no use, and nothing says how long."""
    return _envelope(words, "insufficient_quota", code="insufficient_quota"), {}


def _azure(status: int, words: str) -> Shaped:
    body = {"error": {"code": str(status), "message": words}}
    if status != 429:
        return body, {"apim-request-id": "simulated"}
    return body, {
        "apim-request-id": "simulated",
        "retry-after": str(_WAIT_SECONDS),
        "retry-after-ms": str(_WAIT_SECONDS * 1000),
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-requests": str(_WAIT_SECONDS),
    }


def _anthropic(status: int, words: str) -> Shaped:
    kinds = {429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error"}
    error = {"type": kinds.get(status, "api_error"), "message": words}
    body = {"type": "error", "error": error, "request_id": "req_simulated"}
    headers = {"request-id": "req_simulated"}
    if status == 429:
        headers |= {
            "retry-after": str(_WAIT_SECONDS),
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:07Z",
            "anthropic-ratelimit-tokens-limit": "40000",
            "anthropic-ratelimit-tokens-remaining": "12000",
            "anthropic-ratelimit-tokens-reset": "2030-01-01T00:00:03Z",
        }
    return body, headers


def _gemini(status: int, words: str) -> Shaped:
    """Google says how long to wait in the body alone."""
    kinds = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
    error: dict[str, Any] = {
        "code": status, "message": words, "status": kinds.get(status, "INTERNAL"),
    }  # fmt: skip
    if status == 429:
        google = "type.googleapis.com/google.rpc"
        violation = {"quotaMetric": "simulated", "quotaId": "SimulatedRequestsPerMinute"}
        error["details"] = [
            {"@type": f"{google}.QuotaFailure", "violations": [violation]},
            {"@type": f"{google}.RetryInfo", "retryDelay": f"{_WAIT_SECONDS}s"},
        ]
    # Its OpenAI-compatible door wraps the error in a list.
    return [{"error": error}], {"server-timing": "gfet4t7; dur=12"}


def _mistral(status: int, words: str) -> Shaped:
    limited = status == 429
    body = {
        "object": "error",
        "message": words,
        "type": "rate_limited" if limited else "internal_server_error",
        "param": None,
        "code": "1300" if limited else "3000",
        "raw_status_code": status,
    }
    if not limited:
        return body, {}
    return body, {
        "x-ratelimit-limit-req-minute": "60",
        "x-ratelimit-remaining-req-minute": "0",
        "x-ratelimit-limit-tokens-minute": "500000",
        "x-ratelimit-remaining-tokens-minute": "0",
    }


def _bedrock(status: int, words: str) -> Shaped:
    """The kind of error stands in a header; nothing says how long to wait."""
    kinds = {429: "ThrottlingException", 503: "ServiceUnavailableException"}
    kind = kinds.get(status, "InternalServerException")
    headers = {
        "x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        "x-amzn-requestid": "simulated",
    }
    return {"message": words}, headers


def _envelope(words: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": words, "type": kind, "param": None, "code": code}}


_WORDS = {
    429: "Too many requests for now.",
    500: "Something broke on our side.",
    503: "Not available for now.",
    529: "Too many others are asking.",
}
_SHAPES: dict[str, Callable[[int, str], Shaped]] = {
    "openai": _openai,
    "openai_quota": _openai_quota,
    "azure": _azure,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "mistral": _mistral,
    "bedrock": _bedrock,
}
PROVIDERS = tuple(_SHAPES)
PROVIDER_STATUSES: dict[str, tuple[int, ...]] = {
    "openai": (429, 500, 503),
    "openai_quota": (429,),
    "azure": (429, 500, 503),
    "anthropic": (429, 500, 529),
    "gemini": (429, 500, 503),
    "mistral": (429, 500, 503),
    "bedrock": (429, 500, 503),
}
"""The statuses that each of them is known to send."""
