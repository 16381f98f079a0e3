"""A settled request on its way to the ledger: a line of the journal first, a row of a table then.

The line is the record as it stands, so that writing it costs microseconds; it is taken apart when
it is read. What a database could refuse (numbers out of range, NUL characters) is mended here, so
that one strange reply of an upstream can't hold up the rest.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any
from zlib import crc32

import orjson

from app.exchange.record import Record

_LARGEST = 10**15
"""Tokens, or nano-dollars: a million dollars. More is somebody's mistake, and thousands of such
still have a sum that a database can hold."""
_CHECK = 9
"""Bytes before a line's JSON: its checksum and a space."""
_TOKENS = (
    "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
)  # fmt: skip
_AS_TOLD = (
    "route", "model", "upstream", "decision", "reason", "speed", "status", "outcome", "key_id",
    "duration_seconds", "overhead_seconds", "decide_seconds", "upstream_seconds",
    "first_token_seconds", "predictions", "attempts",
)  # fmt: skip
_NUL = rb"\u0000"
"""As JSON writes it. PostgreSQL knows no such character in a text."""

Row = dict[str, Any]


def line(record: Record) -> bytes:
    """One line of the journal: a checksum, the record as JSON, a line feed."""
    # What it held of its limits is settled, and would be longer than all the rest; so would be its
    # trace, which goes elsewhere.
    hold, record.hold = record.hold, None
    trace, record.trace = record.trace, None
    try:
        text = orjson.dumps(record, default=_plain)
    except TypeError:  # a number beyond 64 bits, half a surrogate pair
        text = orjson.dumps(_tamed(asdict(record)))
    finally:
        record.hold, record.trace = hold, trace
    return b"%08x %b\n" % (crc32(text), text)


def entry(line: bytes) -> dict[str, Any] | None:
    """What a line without its line feed says; None if it is not what was written."""
    text = line[_CHECK:]
    try:
        if int(line[: _CHECK - 1], 16) != crc32(text):
            return None
        told = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    return _without_nul(told) if _NUL in text else told


def request_row(told: Mapping[str, Any]) -> Row:
    """The row of `requests` of an entry. KeyError or TypeError if it is no record."""
    usage: dict[str, Any] = dict(told["usage"] or {})
    cost, baseline = _number(told["cost"]), _number(told["baseline_cost"])
    upstream_cost = told.get("upstream_cost", usage.pop("upstream_cost", None))
    return {
        "id": told["request_id"],
        "at_us": round(told["at"] * 1_000_000),
        **{name: told[name] for name in _AS_TOLD},
        "tags": list(dict.fromkeys(told["tags"])),
        **{name: _number(usage.pop(name, None)) for name in _TOKENS},
        "other_usage": {name: value for name, value in usage.items() if value} or None,
        "cost_nano": cost,
        "cost_estimated": bool(told.get("cost_estimated", False)),
        "upstream_cost_nano": _number(upstream_cost),
        "baseline_cost_nano": baseline,
        "saved_nano": None if cost is None or baseline is None else baseline - cost,
    }


def prompt_row(told: Mapping[str, Any]) -> Row | None:
    """The row of `prompts` of an entry, None where nothing of the prompt is kept."""
    text, embedding = told.get("prompt"), told.get("embedding")
    if text is None and embedding is None:
        return None
    return {
        "id": told["request_id"],
        "at_us": round(told["at"] * 1_000_000),
        "text": text,
        "embedding": None if embedding is None else b64decode(embedding),
    }


def sums(rows: Iterable[Row]) -> dict[str, int]:
    """The measures of `app.accounting.tables` over some rows."""
    rows = list(rows)

    def total(name: str) -> int:
        return sum(row[name] or 0 for row in rows)

    return {
        "requests": len(rows),
        "failed": sum(row["outcome"] not in ("ok", "client_gone") for row in rows),
        "unpriced": sum(row["cost_nano"] is None and bool(row["attempts"]) for row in rows),
        "estimated": sum(row["cost_estimated"] for row in rows),
        **{name: total(name) for name in _TOKENS},
        # Only of what has a cost, so that the two can be held against each other.
        "baseline_cost_nano": sum(
            row["baseline_cost_nano"] for row in rows if row["saved_nano"] is not None
        ),
        **{name: total(name) for name in ("cost_nano", "saved_nano")},
    }


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError


def _tamed(value: Any) -> Any:
    match value:
        case dict():
            return {key: _tamed(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_tamed(inner) for inner in value]
        case bool():
            return value
        case int():
            return max(-_LARGEST, min(value, _LARGEST))
        case str():
            return value.encode(errors="replace").decode()
        case bytes():
            return _plain(value)
    return value


def _number(value: int | float | None) -> int | None:
    return None if value is None else max(-_LARGEST, min(int(value), _LARGEST))


def _without_nul(value: Any) -> Any:
    match value:
        case dict():
            return {_without_nul(key): _without_nul(inner) for key, inner in value.items()}
        case list():
            return [_without_nul(inner) for inner in value]
        case str():
            return value.replace("\x00", "\ufffd")
    return value
