"""A remembered estimate is the estimator's own, and the memory stays small."""

import numpy as np

from app.routing.estimators.base import Estimate, Neighbour, Query
from app.routing.estimators.remembered import Remembered


class Counting:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def estimate(self, query: Query) -> Estimate:
        self.asked.append(query.text)
        one = np.ones(1)
        return Estimate(("m",), one * len(query.text) / 100, one, one, 0.0)

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        return ()


def ask(estimator: Remembered, *texts: str) -> list[float]:
    vector = np.ones(2, dtype=np.float32)
    return [float(estimator.estimate(Query(text, vector)).quality[0]) for text in texts]


def test_the_second_time_is_remembered() -> None:
    counting = Counting()
    assert ask(Remembered(counting, 10), "a", "bb", "a", "bb") == [0.01, 0.02, 0.01, 0.02]
    assert counting.asked == ["a", "bb"]


def test_the_least_lately_used_is_forgotten() -> None:
    counting = Counting()
    ask(Remembered(counting, 2), "a", "b", "a", "c", "a", "b")
    assert counting.asked == ["a", "b", "c", "b"]


def test_without_a_vector_nothing_is_remembered() -> None:
    counting = Counting()
    estimator = Remembered(counting, 2)
    for _ in range(2):
        estimator.estimate(Query("a", None))
    assert counting.asked == ["a", "a"]
