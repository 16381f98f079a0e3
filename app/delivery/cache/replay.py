"""Giving an answer again, in the form that is asked for: a whole body, or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from app.catalog.model import Model
from app.delivery.cache.entry import Entry, Wanted
from app.exchange.record import Record
from app.exchange.request import Request
from app.wire.chat_forms import stream_of, whole_of, without_usage

_BLOCK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from the cache: its body or its events, and what it is booked against."""

    body: bytes
    model: str
    reason: str
    baseline: Model

    def correct(self, record: Record) -> None:
        """Nothing was set down against a pace for it."""

    async def events(self) -> AsyncIterator[bytes]:
        """The stream, a block of whole events at a time."""
        begin = 0
        while begin < len(self.body):
            end = self.body.find(b"\n\n", begin + _BLOCK_BYTES)
            end = len(self.body) if end < 0 else end + 2
            yield self.body[begin:end]
            begin = end


def given(entry: Entry, request: Request) -> tuple[bytes, Entry] | None:
    """The body of an entry as a request asks for it, and the entry, which may know it from now on;
    None if it would lose something by that."""
    asked: Wanted = "whole"
    if request.stream:
        asked = "stream" if request.include_usage else "stream without usage"
    if asked == entry.form:
        return entry.body, entry
    if (known := entry.others.get(asked)) is not None:
        return known, entry
    body = _made(entry, asked)
    if body is None or entry.form == "whole":
        return None if body is None else (body, entry)
    # A stream has an event a word: to read all of them again takes milliseconds.
    return body, replace(entry, others={**entry.others, asked: body})


def _made(entry: Entry, asked: Wanted) -> bytes | None:
    if asked == "whole":
        return whole_of(entry.body)
    events = entry.body if entry.form == "stream" else stream_of(entry.body)
    return events if events is None or asked == "stream" else without_usage(events)
