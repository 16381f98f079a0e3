"""What a client may ask of the delivery of its request, in headers: less time, fewer tries."""

from __future__ import annotations

from math import isfinite

from starlette.types import Scope

from app.errors import InvalidField
from app.exchange.terms import NOTHING_ASKED, Asked

_PREFIX = b"x-pointsman-"
_TOTAL = "x-pointsman-timeout-seconds"
_FIRST_TOKEN = "x-pointsman-first-token-timeout-seconds"  # noqa: S105 - no password
_RETRIES = "x-pointsman-retries"
_LONGEST_SECONDS = 86_400.0
_MOST_RETRIES = 20


def asked(scope: Scope) -> Asked:
    """Of a request's headers. Raises InvalidField, naming the header."""
    found = {
        name.decode("latin-1"): value.decode("latin-1").strip()
        for name, value in scope["headers"]
        if name.startswith(_PREFIX)
    }
    if not found.keys() & {_TOTAL, _FIRST_TOKEN, _RETRIES}:
        return NOTHING_ASKED
    return Asked(
        total_seconds=_seconds(_TOTAL, found.get(_TOTAL)),
        first_token_seconds=_seconds(_FIRST_TOKEN, found.get(_FIRST_TOKEN)),
        retries=_count(found.get(_RETRIES)),
    )


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not isfinite(seconds) or not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidField(
            f"The header `{name}` must be a number of seconds above 0, such as 30.", param=name
        )
    return seconds


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= _MOST_RETRIES):
        raise InvalidField(
            f"The header `{_RETRIES}` must be a whole number from 0 to {_MOST_RETRIES}.",
            param=_RETRIES,
        )
    return int(text)
