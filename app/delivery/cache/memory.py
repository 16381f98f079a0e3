"""The answers that this process keeps: bounded in number and bytes, the ones not asked for the
longest go first."""

from __future__ import annotations

from collections import OrderedDict

from app.delivery.cache.entry import Entry
from app.delivery.cache.terms import Key

_LARGEST_SHARE = 16
"""An answer may take one part in so many of the whole room."""


class Memory:
    """Entries by key."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.bytes = 0

    @property
    def largest(self) -> int:
        """Bytes of the largest body that is kept."""
        return self.max_bytes // _LARGEST_SHARE

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Keep an entry, in the place of one with the same key."""
        if len(entry.body) > self.largest:
            return
        self.drop(key)
        self._entries[key] = entry
        self.bytes += entry.size
        self._make_room()

    def bound(self, max_entries: int, max_bytes: int) -> None:
        """Keep no more than this from now on."""
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self.bytes > self.max_bytes or len(self._entries) > self.max_entries:
            self.drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
