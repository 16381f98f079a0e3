"""The embedder: encodes once, remembers by hash, and survives callers who leave."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from app.lab.synthetic import WordEncoder
from app.routing.encoder import Embedder


class Gate(WordEncoder):
    """Waits for the test before it encodes, and counts."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        assert self.open.wait(5)
        self.encoded += texts
        if "broken" in texts:
            raise RuntimeError("cannot encode")
        return super().encode(texts)


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_remembers_and_tells_how_long(gate: Gate) -> None:
    gate.open.set()
    seconds: list[float] = []
    embedder = Embedder(gate, on_encode=seconds.append)
    assert embedder.cached("a letter") is None
    vector = await embedder.embed("a letter")
    assert np.array_equal(vector, await embedder.embed("a letter"))
    cached = embedder.cached("a letter")
    assert cached is not None
    assert np.array_equal(vector, cached)
    assert gate.encoded == ["a letter"]
    assert len(seconds) == 1
    assert (embedder.hits, embedder.misses) == (2, 1)
    embedder.close()


async def test_one_text_at_one_time_is_encoded_once(gate: Gate) -> None:
    embedder = Embedder(gate)
    waiting = [asyncio.ensure_future(embedder.embed("same")) for _ in range(20)]
    await asyncio.sleep(0)
    gate.open.set()
    vectors = await asyncio.gather(*waiting)
    assert gate.encoded == ["same"]
    assert all(np.array_equal(vectors[0], vector) for vector in vectors)
    embedder.close()


async def test_a_cancelled_caller_leaves_the_others_theirs(gate: Gate) -> None:
    embedder = Embedder(gate)
    first = asyncio.ensure_future(embedder.embed("same"))
    second = asyncio.ensure_future(embedder.embed("same"))
    await asyncio.sleep(0)
    first.cancel()
    gate.open.set()
    assert (await second).shape == (32,)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert gate.encoded == ["same"]
    embedder.close()


async def test_the_loop_stays_free_while_encoding(gate: Gate) -> None:
    embedder = Embedder(gate)
    encoding = asyncio.ensure_future(embedder.embed("slow"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not encoding.done()
    gate.open.set()
    await encoding
    embedder.close()


async def test_a_failure_reaches_every_caller_and_is_not_remembered(gate: Gate) -> None:
    gate.open.set()
    embedder = Embedder(gate)
    results = await asyncio.gather(
        embedder.embed("broken"), embedder.embed("broken"), return_exceptions=True
    )
    assert all(isinstance(result, RuntimeError) for result in results)
    assert embedder.cached("broken") is None
    embedder.close()


async def test_forgets_the_least_recently_used(gate: Gate) -> None:
    gate.open.set()
    embedder = Embedder(gate, cache_entries=2)
    for text in ("one", "two", "one", "three"):
        await embedder.embed(text)
    assert embedder.cached("one") is not None
    assert embedder.cached("two") is None
    embedder.close()


async def test_any_string_is_a_key(gate: Gate) -> None:
    gate.open.set()
    embedder = Embedder(gate)
    for text in ("", "\ud800 lone surrogate", "\0", "x" * 100_000):
        assert (await embedder.embed(text)).dtype == np.float32
    embedder.close()


async def test_a_vector_can_be_had_without_being_remembered(gate: Gate) -> None:
    gate.open.set()
    embedder = Embedder(gate)
    await embedder.embed("asked once", remember=False)
    assert embedder.cached("asked once") is None
    embedder.close()
