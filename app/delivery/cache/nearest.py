"""The question nearest to another among those that may share an answer, by FAISS.

A group is of questions that are equal in all but their last message; each has an exact index of its
own, because most groups are small and only one is searched. Groups not asked for the longest go
first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from app.delivery.cache.terms import Key

Vector = NDArray[np.float32]

_MOST_IN_GROUP = 5_000
"""A search of so many takes a fraction of a millisecond. Of more the last ones are known."""
_LOOKED_AT = 16
"""Of the most alike, how many are tried: the best may have other numbers or names in it."""


class Asked(NamedTuple):
    """One question of a group: its key, and the signature of `likeness`."""

    key: Key
    signature: bytes


@dataclass(slots=True)
class _Group:
    index: Any
    asked: list[Asked] = field(default_factory=list)
    answered: dict[Key, float] = field(default_factory=dict)
    """When each was, the last time."""
    oldest: float = field(kw_only=True)
    """None was answered before this."""
    heard_until: float = 0.0


class Nearest:
    """Vectors of questions by group. Holds no answers: who asks checks that there still is one."""

    def __init__(self, max_vectors: int) -> None:
        # A worker is one core: more threads would take turns with other workers, and spin.
        faiss.omp_set_num_threads(1)
        self._max_vectors = max_vectors
        self._most_in_group = max(min(max_vectors, _MOST_IN_GROUP), 2)
        self._groups: OrderedDict[Key, _Group] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def knows(self, group: Key, since: float) -> bool:
        """Whether anything in a group was answered since then. What was before is forgotten."""
        found = self._groups.get(group)
        if found is None:
            return False
        if since < found.oldest:
            return True
        old = [row for row, one in enumerate(found.asked) if found.answered[one.key] <= since]
        if len(old) == len(found.asked):
            del self._groups[group]
            self._count -= len(old)
            return False
        if old:
            self._forget(found, old)
        found.oldest = min(found.answered.values())
        return True

    def heard_until(self, group: Key) -> float:
        """The latest time of what others added to a group and this process has heard of."""
        found = self._groups.get(group)
        return 0.0 if found is None else found.heard_until

    def hear(self, group: Key, asked: Asked, vector: Vector, at: float) -> None:
        """Add a question that others were asked."""
        self.add(group, asked, vector, at)
        self._groups[group].heard_until = max(self._groups[group].heard_until, at)

    def add(self, group: Key, asked: Asked, vector: Vector, at: float) -> None:
        """Add a question that was answered `at` a time, or note that a known one was again."""
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _Group(faiss.IndexFlatIP(len(vector)), oldest=at)
        self._groups.move_to_end(group)
        if asked.key in found.answered:
            found.answered[asked.key] = max(found.answered[asked.key], at)
            return
        if len(found.asked) >= self._most_in_group:
            self._forget(found, range(len(found.asked) - len(found.asked) // 2))
        found.index.add(np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1))
        found.asked.append(asked)
        found.answered[asked.key] = at
        found.oldest = min(found.oldest, at)
        self._count += 1
        while self._count > self._max_vectors and len(self._groups) > 1:
            _, gone = self._groups.popitem(last=False)
            self._count -= len(gone.asked)

    def like(
        self, group: Key, vector: Vector, signature: bytes, least: float
    ) -> Iterator[tuple[Key, float]]:
        """Questions with this signature that are at least so alike, the most alike first."""
        found = self._groups.get(group)
        if found is None:
            return
        self._groups.move_to_end(group)
        count = min(_LOOKED_AT, len(found.asked))
        similarities, rows = found.index.search(
            np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1), count
        )
        for similarity, row in zip(similarities[0], rows[0], strict=True):
            if similarity < least:
                return
            if found.asked[row].signature == signature:
                yield found.asked[row].key, float(similarity)

    def _forget(self, group: _Group, rows: Sequence[int]) -> None:
        group.index.remove_ids(np.array(rows, dtype=np.int64))  # those behind move up
        for row in reversed(rows):
            del group.answered[group.asked.pop(row).key]
        self._count -= len(rows)
