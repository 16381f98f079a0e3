"""An answer that is kept: which are worth keeping, and how one is written for others to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from app.exchange.usage import Usage

Form = Literal["whole", "stream"]
Wanted = Literal["whole", "stream", "stream without usage"]

_OVERHEAD_BYTES = 512
"""Of an entry in memory, beside its body."""
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"]*)"')
_REFUSED = re.compile(rb'"refusal"\s*:\s*"[^"]')
_ENDED_WELL = frozenset({b"stop", b"tool_calls", b"function_call"})
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as it was given, naming our model: a whole body, or the events of a stream with
    that of its usage. `stored_at` in seconds since 1970. `others` are forms that it was asked for
    in, and that take long to make."""

    form: Form
    body: bytes
    model: str
    usage: Usage | None
    stored_at: float
    others: Mapping[Wanted, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.body) + sum(map(len, self.others.values())) + _OVERHEAD_BYTES


def is_worth_keeping(body: bytes, payload: Mapping[str, Any]) -> bool:
    """Whether an answer would be given again: it came to its end, of its own or at the length that
    the request set, and nothing was refused or filtered.

    The patterns can't match inside a string, where the quotes would be escaped.
    """
    ends = set(_FINISH.findall(body))
    well = _ENDED_WELL
    if payload.get("max_tokens") or payload.get("max_completion_tokens"):
        well = well | {b"length"}
    return bool(ends) and ends <= well and _REFUSED.search(body) is None


def written(entry: Entry) -> bytes:
    """A line of JSON, then the body as it is."""
    head = {
        "version": _VERSION,
        "form": entry.form,
        "model": entry.model,
        "usage": None if entry.usage is None else asdict(entry.usage),
        "stored_at": entry.stored_at,
    }
    return orjson.dumps(head) + b"\n" + entry.body


def read(data: bytes) -> Entry | None:
    """None of what another version has written."""
    head, _, body = data.partition(b"\n")
    try:
        told = orjson.loads(head)
        if told["version"] != _VERSION:
            return None
        usage = None if told["usage"] is None else Usage(**told["usage"])
        return Entry(told["form"], body, told["model"], usage, told["stored_at"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
