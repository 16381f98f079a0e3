"""Vectors of many prompts, remembered between runs, because encoding is nearly all of the time
training takes.

The cache is outside the project, a file an encoder: vectors by text hash, no text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.routing.encoder.base import Encoder

_CHUNK = 256


def default_cache() -> Path:
    """POINTSMAN_CACHE, or the user's cache directory."""
    chosen = os.environ.get("POINTSMAN_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "pointsman"


class EmbeddingCache:
    """Vectors of one encoder, kept in one file."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self._path = directory / f"vectors-{fingerprint}.npz"
        self._vectors: dict[bytes, NDArray[np.float32]] = {}
        if self._path.is_file():
            with np.load(self._path, allow_pickle=False) as stored:
                keys = stored["keys"]
                self._vectors = {
                    key.tobytes(): v for key, v in zip(keys, stored["vectors"], strict=True)
                }

    def __contains__(self, text: str) -> bool:
        return _key(text) in self._vectors

    def __getitem__(self, text: str) -> NDArray[np.float32]:
        return self._vectors[_key(text)]

    def add(self, text: str, vector: NDArray[np.float32]) -> None:
        self._vectors[_key(text)] = vector

    def save(self) -> None:
        """Writes the file whole, then puts it in place."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(
            scratch,
            keys=np.frombuffer(b"".join(self._vectors), dtype=np.uint8).reshape(-1, 16),
            vectors=np.stack(list(self._vectors.values())),
        )
        scratch.replace(self._path)


def embed_all(
    encoder: Encoder,
    texts: Sequence[str],
    cache: EmbeddingCache | None = None,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Vectors of all texts, encoding only those the cache lacks; `advance` is told how many more
    are done.
    """
    known = cache if cache is not None else _Memory()
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    _advance(advance, len(texts) - len(missing))
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        for text, vector in zip(chunk, encoder.encode(chunk), strict=True):
            known.add(text, vector)
        _advance(advance, len(chunk))
        if cache is not None and (start // _CHUNK) % 20 == 19:
            cache.save()
    if cache is not None and missing:
        cache.save()
    if not texts:
        return np.empty((0, encoder.dimensions), dtype=np.float32)
    return np.stack([known[text] for text in texts])


class _Memory(dict[str, NDArray[np.float32]]):
    def add(self, text: str, vector: NDArray[np.float32]) -> None:
        self[text] = vector


def _advance(advance: Callable[[int], None] | None, count: int) -> None:
    if advance is not None and count:
        advance(count)


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
