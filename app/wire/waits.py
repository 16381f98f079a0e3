"""For how long an upstream asks to be left alone, in the forms that providers say it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

_KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
_FAMILIES = ("x-ratelimit-{what}-{kind}", "anthropic-ratelimit-{kind}-{what}")
_ALONE = ("x-ratelimit-reset", "ratelimit-reset")
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6,
          "ns": 1e-9}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')
_EPOCH_FROM = 1_000_000_000.0
"""A number that large is a moment since 1970, in seconds; a thousand times that in milliseconds."""


def wait_seconds(headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """Seconds from `now` (since 1970) by the headers of a 429, or its body as Google's; None if it
    does not say. Names of headers may be in any case only if the mapping does not mind."""
    if (wait := retry_after(headers, now)) is not None:
        return wait
    resets = list(_resets(headers, now))
    if spent := [wait for wait, left in resets if left == 0]:
        return max(spent)
    if resets:
        # None is used up: this request was too large for what was left, of which nobody knows.
        return min(wait for wait, _ in resets)
    for name in _ALONE:
        if (said := headers.get(name)) and (wait := seconds_until(said, now)) is not None:
            return wait
    if match := _RETRY_DELAY.search(body):
        return _said(float(match.group(1)))
    return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """What an answer of any status asks for outright. Allowances are told with every answer, and
    are no wish."""
    said = headers.get("retry-after-ms")
    if said and _NUMBER.fullmatch(said.strip()):
        return _said(float(said) / 1_000)
    said = headers.get("retry-after")
    return seconds_until(said, now) if said else None


def _resets(headers: Mapping[str, str], now: float) -> Iterator[tuple[float, float | None]]:
    """When each allowance is whole again, and what is left of it if that is told."""
    for family in _FAMILIES:
        for kind in _KINDS:
            said = headers.get(family.format(what="reset", kind=kind))
            if not said or (wait := seconds_until(said, now)) is None:
                continue
            left = headers.get(family.format(what="remaining", kind=kind), "").strip()
            yield wait, float(left) if _NUMBER.fullmatch(left) else None


def seconds_until(text: str, now: float) -> float | None:
    """Of `20`, `20ms`, `6m0s`, a moment since 1970, an HTTP date or one of RFC 3339; never below 0.
    None if it is none of these."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = _said(float(text))
        if number is None:
            return None
        if number >= _EPOCH_FROM * 1_000:
            return max(number / 1_000 - now, 0.0)
        return max(number - now, 0.0) if number >= _EPOCH_FROM else number
    if _DURATION.fullmatch(text):
        return _said(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    moment = _moment(text)
    return None if moment is None else max(moment - now, 0.0)


def _said(seconds: float) -> float | None:
    """More digits than a number has room for say nothing."""
    return seconds if isfinite(seconds) else None


def _moment(text: str) -> float | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = read(text)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
