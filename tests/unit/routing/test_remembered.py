"""A remembered estimate is the estimator's own, and the memory stays small."""

import numpy as np

from app.routing.estimators.base import Estimate, Neighbour, Query
from app.routing.estimators.remembered import Remembered


class Counting:
    def __init__(self, *, reads_text: bool = False) -> None:
        self.reads_text = reads_text
        self.asked: list[str] = []

    def estimate(self, query: Query) -> Estimate:
        self.asked.append(query.text)
        one = np.ones(1)
        full = query.vector is not None
        return Estimate(("m",), one * len(query.text) / (100 if full else 10), one, one, 0.0)

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        return ()


def ask(estimator: Remembered, *texts: str, vector: bool = True) -> list[float]:
    known = np.ones(2, dtype=np.float32) if vector else None
    return [float(estimator.estimate(Query(text, known)).quality[0]) for text in texts]


def test_the_second_time_is_remembered() -> None:
    counting = Counting()
    assert ask(Remembered(counting, 10), "a", "bb", "a", "bb") == [0.01, 0.02, 0.01, 0.02]
    assert counting.asked == ["a", "bb"]


def test_the_least_lately_used_is_forgotten() -> None:
    for vector in (True, False):
        counting = Counting(reads_text=True)
        ask(Remembered(counting, 2), "a", "b", "a", "c", "a", "b", vector=vector)
        assert counting.asked == ["a", "b", "c", "b"]


def test_what_cannot_read_has_nothing_to_remember_without_a_vector() -> None:
    counting = Counting()
    ask(Remembered(counting, 2), "a", "a", vector=False)
    assert counting.asked == ["a", "a"]


def test_a_full_estimate_is_not_mistaken_for_one_from_text_and_is_preferred() -> None:
    counting = Counting(reads_text=True)
    remembered = Remembered(counting, 2)
    assert ask(remembered, "a", "a", vector=False) == [0.1, 0.1]
    assert ask(remembered, "a", "a") == [0.01, 0.01]
    assert ask(remembered, "a", vector=False) == [0.01]
    assert counting.asked == ["a", "a"]


def test_no_memory_is_a_choice() -> None:
    counting = Counting(reads_text=True)
    ask(Remembered(counting, 0), "a", "a", vector=False)
    assert counting.asked == ["a", "a"]
