"""Keeps encoding off the event loop, and remembers vectors, because encoding is nearly all of what
routing costs.

Texts are not kept: the cache is keyed by their hash. Requests for one text at one time share a
single encoding, and a caller who hangs up leaves it running for the others and for the cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from app.routing.encoder.base import Encoder

Vector = NDArray[np.float32]
Timed = tuple[Vector, float]


class Embedder:
    """An encoder as serving uses it, on one event loop. `on_encode` is told how many seconds each
    encoding took.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        cache_entries: int = 10_000,
        threads: int = 1,
        on_encode: Callable[[float], None] | None = None,
    ) -> None:
        self._encoder = encoder
        self._cache_entries = cache_entries
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[Timed]] = {}
        self._on_encode = on_encode
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="encode")
        self.hits = 0
        self.misses = 0

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    def serves(self, encoder: Encoder) -> bool:
        """Whether it is this very encoder that is behind it."""
        return self._encoder is encoder

    def keep(self, cache_entries: int) -> None:
        """How many vectors to remember from now on."""
        self._cache_entries = cache_entries
        while len(self._cache) > cache_entries:
            self._cache.popitem(last=False)

    def cached(self, text: str) -> Vector | None:
        """The vector, if it is at hand without encoding."""
        return self._remembered(_key(text))

    async def embed(self, text: str, *, remember: bool = True) -> Vector:
        """The vector of a text, encoded in a thread if need be, and then remembered or not."""
        key = _key(text)
        vector = self._remembered(key)
        if vector is not None:
            return vector
        running = self._running.get(key)
        if running is None:
            self.misses += 1
            running = self._start(key, text, remember)
        else:
            self.hits += 1
        # Shielded: cancelling this caller must not cancel the encoding others wait for.
        encoded, _ = await asyncio.shield(running)
        return encoded

    def close(self) -> None:
        """Stops the threads; encodings not yet started are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, key: bytes, text: str, remember: bool) -> asyncio.Future[Timed]:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, self._encode, text)
        self._running[key] = running
        running.add_done_callback(lambda done: self._finish(key, done, remember))
        return running

    def _encode(self, text: str) -> Timed:
        started = time.perf_counter()
        vector = self._encoder.encode([text])[0]
        return vector, time.perf_counter() - started

    def _finish(self, key: bytes, done: asyncio.Future[Timed], remember: bool) -> None:
        self._running.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        vector, seconds = done.result()
        vector.flags.writeable = False
        if remember:
            self._cache[key] = vector
            if len(self._cache) > self._cache_entries:
                self._cache.popitem(last=False)
        if self._on_encode is not None:
            self._on_encode(seconds)

    def _remembered(self, key: bytes) -> Vector | None:
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
            self.hits += 1
        return vector


def _key(text: str) -> bytes:
    # A lone surrogate is valid in a JSON string but not in UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
