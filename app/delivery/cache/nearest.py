"""The question nearest to another among those that may share an answer, by FAISS.

A group is of questions that are equal in all but their last message; each has an exact index of its
own, because most groups are small and only one is searched. Groups not asked for the longest go
first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
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
    known: set[Key] = field(default_factory=set)
    seen_until: float = 0.0


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

    def knows(self, group: Key) -> bool:
        """Whether anything was asked in a group."""
        return group in self._groups

    def seen_until(self, group: Key) -> float:
        """The latest time of what others added to a group and this process has heard of."""
        found = self._groups.get(group)
        return 0.0 if found is None else found.seen_until

    def add(self, group: Key, asked: Asked, vector: Vector, at: float = 0.0) -> None:
        """Add a question; known ones stay as they are. `at` is when others added it."""
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _Group(faiss.IndexFlatIP(len(vector)))
        self._groups.move_to_end(group)
        found.seen_until = max(found.seen_until, at)
        if asked.key in found.known:
            return
        if len(found.asked) >= self._most_in_group:
            self._halve(found)
        found.index.add(np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1))
        found.asked.append(asked)
        found.known.add(asked.key)
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

    def _halve(self, group: _Group) -> None:
        """Forget the older half of a group."""
        kept = len(group.asked) // 2
        vectors = group.index.reconstruct_n(group.index.ntotal - kept, kept)
        self._count -= len(group.asked) - kept
        group.index = faiss.IndexFlatIP(group.index.d)
        group.index.add(vectors)
        group.asked = group.asked[-kept:]
        group.known = {one.key for one in group.asked}
