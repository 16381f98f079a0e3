"""Giving an answer again, in the form that is asked for: a whole body, or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.catalog.model import Model
from app.delivery.cache.entry import Entry
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


def in_form(entry: Entry, request: Request) -> bytes | None:
    """The body of an entry as a request asks for it; None if it would lose something by that."""
    if not request.stream:
        return entry.body if entry.form == "whole" else whole_of(entry.body)
    events = entry.body if entry.form == "stream" else stream_of(entry.body)
    if events is None or request.include_usage:
        return events
    return without_usage(events)
