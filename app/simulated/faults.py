"""The faults that have a name: what upstreams really do wrong, each as a behaviour to script.

docs/reliability.md has a row for each of them, held by a test: what is added here needs one.
"""

from __future__ import annotations

from typing import Any

from app.simulated.provider_errors import PROVIDER_STATUSES

_LONG_SECONDS = 3600
_PAGE = "<!doctype html><title>Sign in</title><p>This network wants you to sign in first.</p>"
_ABSURD = {"prompt_tokens": -5, "completion_tokens": 10**18, "total_tokens": 3}
_IN_BAND = {"error": {"message": "[simulated] Failed.", "type": "server_error", "code": None}}

_ON_THE_CONNECTION: dict[str, dict[str, Any]] = {
    "reset_before_head": {"cut_before_head": True},
    "reset_in_head": {"cut_head_after_bytes": 30},
    "reset_in_first_event": {"cut_after_bytes": 40},
    "reset_after_events": {"cut_after_chunks": 3},
    "closed_in_body": {"cut_after_bytes": 40, "closes": True},
    "closed_after_events": {"cut_after_chunks": 3, "closes": True},
}
_IN_TIME: dict[str, dict[str, Any]] = {
    "slow_head": {"delay_seconds": _LONG_SECONDS},
    "slow_first_byte": {"first_byte_delay_seconds": _LONG_SECONDS},
    "slow_drip": {"drip_bytes": 1},
    "stall_in_first_event": {"stall_after_bytes": 40},
    "stall_after_events": {"stall_after_chunks": 3},
}
_IN_FORM: dict[str, dict[str, Any]] = {
    "bad_framing": {"bad_framing": True},
    "empty_body": {"error": ""},
    "html_page": {"error": _PAGE, "content_type": "text/html"},
    "wrong_content_type": {"content_type": "text/plain"},
    "events_for_a_body": {"as_stream": True},
    "body_for_events": {"as_stream": False},
    "truncated_json": {"malformed": True},
    "truncated_stream": {"end_after_chunks": 3},
    "malformed_sse": {"raw_sse": ["event: message\n", "id: 1\n", "nothing of use\n\n"]},
    "error_that_stalls": {"status": 429, "error_like": "openai", "stall_after_bytes": 5},
    "error_that_is_cut": {"status": 503, "error_like": "openai", "cut_after_bytes": 5},
    "error_without_end": {"status": 500, "error_like": "openai", "endless": "body"},
    "error_with_200": {"error": _IN_BAND},
}
_IN_SIZE: dict[str, dict[str, Any]] = {
    "huge_headers": {"head_bytes": 1024 * 1024},
    "endless_head": {"endless": "head"},
    "endless_body": {"endless": "body"},
    "endless_event": {"endless": "event"},
    "endless_stream": {"endless": "chunks", "chunk_delay_seconds": 0.01},
    "gzip_unasked": {"gzip": True},
    "gzip_bomb": {"gzip_bomb_bytes": 2 * 1024**3},
}
_IN_USAGE: dict[str, dict[str, Any]] = {
    "usage_missing": {"usage": "missing"},
    "usage_absurd": {"usage": _ABSURD},
}
_BY_PROVIDER: dict[str, dict[str, Any]] = {
    f"{provider}_{status}": {"status": status, "error_like": provider}
    for provider, statuses in PROVIDER_STATUSES.items()
    for status in statuses
}

FAULTS: dict[str, dict[str, Any]] = {
    **_ON_THE_CONNECTION,
    **_IN_TIME,
    **_IN_FORM,
    **_IN_SIZE,
    **_IN_USAGE,
    **_BY_PROVIDER,
}
"""The keys of a behaviour by the name of the fault."""
