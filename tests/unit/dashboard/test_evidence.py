"""The neighbours of a past request: from what is kept of it, else why there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from app.catalog.model import Model, Prices
from app.dashboard.evidence import COUNT, Evidence
from app.routing.decider import Decider
from app.routing.encoder.embedder import Embedder
from app.routing.estimators.base import Neighbour, Query
from app.routing.names import Names
from app.routing.objective import Quality
from app.routing.route import Route
from app.telemetry.metrics import Metrics
from tests.readers import CountingEncoder, Reader

SMALL, LARGE = Model("small", "u", "s", Prices(1, 1)), Model("large", "u", "l", Prices(2, 2))
VECTOR = np.ones(32, dtype="<f4").tobytes()


class Asked(Reader):
    """Keeps what neighbours it was asked for."""

    def __init__(self, dimensions: int = 32, count: int = COUNT) -> None:
        super().__init__(["small", "large"])
        self.queries: list[Query] = []
        self._dimensions, self._count = dimensions, count

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        self.queries.append(query)
        assert query.vector is not None
        assert query.vector.shape == (self._dimensions,)
        return tuple(
            Neighbour(f"n{i}", "sums", 0.98765, {"small": 1.0}) for i in range(self._count)
        )


@pytest.fixture
async def embedder() -> AsyncIterator[Embedder]:
    one = Embedder(CountingEncoder())
    yield one
    one.close()


def evidence(embedder: Embedder, reader: Asked, **settings: bool) -> Evidence:
    route = Route("auto", (SMALL, LARGE), LARGE, Quality(), reader)
    stated = Route("stated", (SMALL, LARGE), LARGE, Quality(), reader, learned=False)
    names = Names({"auto": route, "stated": stated}, {})
    decider = Decider(embedder, Metrics(CollectorRegistry()))
    return Evidence(names, decider, **settings)


def kept(text: str | None = None, embedding: bytes | None = None) -> dict[str, Any]:
    return {"id": "req_1", "text": text, "embedding": embedding}


async def test_the_vector_that_was_kept(embedder: Embedder) -> None:
    reader = Asked()
    told = await evidence(embedder, reader).of("auto", kept(embedding=VECTOR))
    assert told["no_neighbours"] is None
    assert len(told["neighbours"]) == COUNT
    first = {"id": "n0", "task": "sums", "similarity": 0.9877, "scores": {"small": 1.0}}
    assert told["neighbours"][0] == first
    assert embedder.misses == 0, "nothing is encoded"


async def test_the_text_that_was_kept(embedder: Embedder) -> None:
    reader = Asked()
    shown = evidence(embedder, reader, keeps_text=True)
    assert (await shown.of("auto", kept(text="two and two")))["neighbours"]
    assert reader.queries[0].text == "two and two"
    assert embedder.cached("two and two") is None, "or the chat door would decide otherwise"


@pytest.mark.parametrize(
    ("route", "row", "settings", "why"),
    [
        ("auto", None, {}, "`ledger.keep_embeddings: true`"),
        ("auto", None, {"keeps_embeddings": True}, "`encode: always`"),
        ("auto", kept(text="kept once"), {}, "`ledger.keep_embeddings: true`"),
        ("auto", kept(embedding=VECTOR[:64]), {}, "another encoder"),
        ("stated", kept(embedding=VECTOR), {}, "stated qualities"),
        ("gone", kept(embedding=VECTOR), {}, "no route `gone` any more"),
        ("pinned", kept(embedding=VECTOR), {}, "named the model"),
    ],
)
async def test_why_there_are_none(
    embedder: Embedder, route: str, row: Any, settings: dict[str, bool], why: str
) -> None:
    told = await evidence(embedder, Asked(), **settings).of(route, row)
    assert told["neighbours"] == []
    assert why in told["no_neighbours"]


async def test_a_router_that_knows_none(embedder: Embedder) -> None:
    told = await evidence(embedder, Asked(count=0)).of("auto", kept(embedding=VECTOR))
    assert told == {
        "neighbours": [],
        "no_neighbours": "The route's kind of router knows no neighbours.",
    }
