"""Nearest known prompts, by FAISS, from a file that all workers map and share.

The file depends only on the rows and the encoder: retraining anything else leaves its bytes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from app.errors import ArtifactError

FLAT_UP_TO = 3_000
"""Up to here an exact search is as fast as any, and compressing saves nothing worth having."""

_SEED = 1234


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """`lists` 0 compares a query with every row; `probes` is how many lists a search reads."""

    lists: int
    probes: int
    factory: str

    @staticmethod
    def for_size(rows: int) -> IndexSettings:
        """The measured choice (docs/decisions/0003-index.md)."""
        if rows <= FLAT_UP_TO:
            return IndexSettings(lists=0, probes=0, factory="Flat")
        lists = 2 ** round(np.log2(np.sqrt(rows)))
        return IndexSettings(lists=lists, probes=max(8, lists // 16), factory=f"IVF{lists},SQ6")


class VectorIndex:
    """Inner-product search over unit vectors; rows are numbered as they were added."""

    def __init__(self, index: Any, probes: int) -> None:
        self._index = index
        self._parameters: Any = None
        if probes:
            self._parameters = faiss.SearchParametersIVF()
            self._parameters.nprobe = probes
        self.rows: int = index.ntotal
        self.dimensions: int = index.d

    @classmethod
    def open(cls, path: Path, probes: int) -> VectorIndex:
        """Maps the file read-only. Raises ArtifactError if it cannot be read as an index."""
        # A worker is one core: more threads would take turns with other workers, and spin.
        faiss.omp_set_num_threads(1)
        try:
            index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise ArtifactError(f"index {path}: cannot be read: {reason}") from error
        if isinstance(index, faiss.IndexIVF):
            # A mapped index would start 32 threads at every search to read ahead what the page
            # cache holds anyway: 1.1 ms where the search itself takes 0.15 ms.
            inverted: Any = index.invlists
            lists: Any = faiss.downcast_InvertedLists(inverted)
            lists.prefetch_nthread = 0
        return cls(index, probes)

    def search(
        self, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities, falling, and row numbers; fewer than `count` where the index has fewer."""
        similarities, rows = self._index.search(
            vector.reshape(1, -1), min(count, self.rows), params=self._parameters
        )
        found = rows[0] >= 0
        if found.all():
            return similarities[0], rows[0]
        return similarities[0][found], rows[0][found]


def build_index(vectors: NDArray[np.float32], settings: IndexSettings) -> Any:
    """A FAISS index of these rows; on one thread, the same rows give the same bytes."""
    index: Any = faiss.index_factory(vectors.shape[1], settings.factory, faiss.METRIC_INNER_PRODUCT)
    if settings.lists:
        index.cp.seed = _SEED
        index.cp.spherical = True
        index.cp.max_points_per_centroid = len(vectors)
    if not index.is_trained:
        index.train(vectors)
    index.add(vectors)
    return index


def write_index(index: Any, path: Path) -> None:
    faiss.write_index(index, str(path))
