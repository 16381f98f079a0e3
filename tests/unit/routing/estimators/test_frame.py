"""What all kinds have in common, around a method that answers what it is told to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.routing.estimators.base import Candidate, Query
from app.routing.estimators.clusters import (
    ClusterTable,
    ClusterVotes,
    Standing,
    log_odds_of,
)
from app.routing.estimators.frame import LIKE_TRUST, RouterEstimator
from app.routing.estimators.knn import MISSING, KnnSettings, Neighbourhood
from app.routing.estimators.lengths import LengthTable
from app.routing.estimators.method import Near, Read
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.rows import Rows

CLUSTERS = np.array([0, 0, 0, 1, 1, 1], dtype=np.uint16)
QUALITY = np.array([[0.8, 0.9], [0.2, 0.7]])
"""By cluster and model; both clusters are as large."""
OVERALL = QUALITY.mean(axis=0)
NAN = float("nan")
VECTOR = np.zeros(2, dtype=np.float32)


class Told:
    """A method that says what it is told, and keeps what it was asked. It reads text if it is told
    what to read.
    """

    def __init__(self, quality: Sequence[float], read: Read | None = None) -> None:
        self._quality = np.array(quality)
        self.asked: list[Near] = []
        if read is not None:
            self.read = lambda text: read

    def quality(self, near: Near) -> np.ndarray:
        self.asked.append(near)
        return self._quality


class Found:
    """An index that finds the first rows, all as similar."""

    def __init__(self, similarity: float, rows: int = 3) -> None:
        self._similarity, self._rows = similarity, rows

    def search(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        found = min(count, self._rows)
        return np.full(found, self._similarity, dtype=np.float32), np.arange(found)


def read(quality: Sequence[float], doubt: Sequence[float], **more: float) -> Read:
    return Read(np.array(quality), np.array(doubt), **{"length": 1.0, "novelty": 0.0, **more})


def frame(method: Told, similarity: float = 0.9, **changed: Any) -> RouterEstimator:
    """Two models, the second only `like` a known one; neighbours in the first cluster."""
    cells = log_odds_of(QUALITY).astype(np.float32)
    table = ClusterTable(
        cells=cells,
        counts=np.full((2, 2), 100.0, dtype=np.float32),
        ability=np.zeros(2, dtype=np.float32),
        ease=np.zeros(2, dtype=np.float32),
        spread=np.zeros(2, dtype=np.float32),
        weights=np.full(2, 0.5, dtype=np.float32),
    )
    scores = np.full((6, 2), 254, dtype=np.uint8)
    scores[0, 1] = MISSING
    standings = (Standing(0, 0.0, True, 8.0), Standing(1, 0.0, False, 5.0))
    prior = table.prior(standings)
    settings = KnnSettings(count=3)
    lengths = LengthTable(
        codes=np.zeros((6, 2), dtype=np.uint8),
        wordiness=np.array([1.0, 2.0], dtype=np.float32),
        cluster_length=np.array([100.0, 300.0], dtype=np.float32),
        overall=200.0,
    )
    parts: dict[str, Any] = {
        "candidates": (Candidate("small"), Candidate("large")),
        "standings": standings,
        "method": method,
        "prior": prior,
        "votes": ClusterVotes(CLUSTERS, 2, 0.06),
        "index": Found(similarity),
        "neighbourhood": Neighbourhood(scores, settings),
        "lengths": lengths.for_candidates(standings),
        "novelty": NoveltyScale(familiar=0.6, strange=0.2),
        "count": settings.count,
        "rows": Rows(scores, CLUSTERS, ("a", "b"), Path("ids.txt")),
        "usual_support": np.array([40.0, 40.0]),
    }
    return RouterEstimator(**{**parts, **changed})


def test_the_method_is_asked_with_what_was_found() -> None:
    method = Told([0.3, 0.6])
    found = frame(method).estimate(Query("hello", VECTOR))
    assert found.quality == pytest.approx([0.3, 0.6])
    assert (found.novelty, found.doubt) == (0.0, None)
    (near,) = method.asked
    assert (near.text, near.rows.tolist(), near.shares.tolist()) == ("hello", [0, 1, 2], [1.0, 0.0])
    assert near.weights == pytest.approx(np.exp(-0.1 / 0.2) * np.ones(3))
    # Three neighbours and ten for the cluster; of a model it is only like, two and ten, by half.
    assert found.support == pytest.approx([8.0 + 13.0, 5.0 + LIKE_TRUST * 12.0])
    assert found.output_tokens == pytest.approx([100.0, 200.0])


def test_where_the_method_knows_nothing_the_clusters_answer() -> None:
    found = frame(Told([NAN, 0.6])).estimate(Query("", VECTOR))
    assert found.quality == pytest.approx([QUALITY[0, 0], 0.6], abs=1e-3)


@pytest.mark.parametrize(("similarity", "novelty"), [(0.4, 0.5), (0.1, 1.0)])
def test_the_unlike_moves_to_the_overall_standing(similarity: float, novelty: float) -> None:
    found = frame(Told([0.3, 0.6]), similarity).estimate(Query("", VECTOR))
    assert found.novelty == pytest.approx(novelty)
    told = np.array([0.3, 0.6])
    assert found.quality == pytest.approx((1 - novelty) * told + novelty * OVERALL, abs=1e-3)
    assert found.support[0] == pytest.approx(8.0 + (1 - novelty) * 13.0)


def test_without_a_vector_or_words_only_the_standing_is_known() -> None:
    method = Told([0.3, 0.6])
    for estimator, query in (
        (frame(method), Query("hello", None)),
        (frame(method, index=Found(0.9, rows=0)), Query("hello", VECTOR)),
    ):
        found = estimator.estimate(query)
        assert found.quality == pytest.approx(OVERALL, abs=1e-3)
        assert found.support.tolist() == [8.0, 5.0]
        assert (found.novelty, found.doubt) == (1.0, None)
    assert not method.asked


def test_words_alone_give_an_estimate_with_its_doubt() -> None:
    told = read([0.4, 0.8], [0.05, 0.02], length=1.5, novelty=0.2)
    estimator = frame(Told([0.3, 0.6], told))
    assert estimator.reads_text
    found = estimator.estimate(Query("hello", None))
    assert found.quality == pytest.approx(0.8 * told.quality + 0.2 * OVERALL, abs=1e-3)
    assert found.doubt == pytest.approx([0.05, 0.02])
    assert found.novelty == 0.2
    assert found.support == pytest.approx([8.0 + 0.8 * 40.0, 5.0 + 0.8 * LIKE_TRUST * 40.0])
    assert found.output_tokens == pytest.approx(np.array([200.0, 400.0]) * 1.4)
    encoded = estimator.estimate(Query("hello", VECTOR))
    assert encoded.quality == pytest.approx([0.3, 0.6])
    assert encoded.doubt is None, "the vector was used"


def test_words_that_say_nothing_of_a_candidate_doubt_it_as_clusters_differ() -> None:
    told = read([NAN, 0.8], [NAN, 0.02])
    found = frame(Told([0.3, 0.6], told)).estimate(Query("hello", None))
    assert found.quality == pytest.approx([OVERALL[0], 0.8], abs=1e-3)
    # Against the mean of both it is .05 behind in one cluster and .25 in the other.
    assert found.doubt == pytest.approx([0.1, 0.02], abs=1e-3)
