"""The comparison of encoders, on vectors whose worth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.lab.outcomes import build_table, split
from app.lab.synthetic import WordEncoder, synthetic_rows
from app.routing.estimators.classifier import ClassifierHeads, PairHead, TunedHeads
from benchmarks import encoders
from benchmarks.encoders import UNTOUCHED, Pair, Problem, Tuned, knn_gain, predictions, ridge_gain


def test_scorers_find_a_gain_that_lies_along_a_direction() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((900, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gain = vectors[:, 0] + 0.1 * rng.standard_normal(900)
    for scorer, least in ((knn_gain, 0.8), (ridge_gain, 0.9)):
        predicted = scorer(vectors[:700], gain[:700], vectors[700:])
        assert np.corrcoef(predicted, gain[700:])[0, 1] > least
    constant = knn_gain(vectors[:50], np.full(50, 0.3), vectors[50:60])
    assert constant == pytest.approx(np.full(10, 0.3)), "fewer rows than neighbours are all used"


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> tuple[Problem, np.ndarray, np.ndarray]:
    pair = Pair("synthetic", "large", "small")
    monkeypatch.setattr(encoders, "PAIRS", (pair, Pair("synthetic", "large", "nobody")))
    monkeypatch.setattr(encoders, "REPEATS", 100)
    train, test = split(build_table(synthetic_rows(1500, seed=3)), 0.3)
    found = encoders.problems(train, test)
    assert [p.pair for p in found] == [pair]
    words = WordEncoder()
    return found[0], words.encode(train.prompts), words.encode(test.prompts)


def test_better_vectors_gain_and_equal_ones_do_not(
    problem: tuple[Problem, np.ndarray, np.ndarray],
) -> None:
    at, train, test = problem
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(part.shape).astype(np.float32) for part in (train, test)]
    blind = predictions(at, Tuned(UNTOUCHED, Path()), *noise)
    seeing = predictions(at, Tuned("task", Path()), train, test)
    scores = encoders.scores_of(at, {UNTOUCHED: blind, "task": seeing}, seed=0)
    by_name = {(score.encoder, score.scorer): score for score in scores}
    assert by_name[UNTOUCHED, "knn"].difference == by_name[UNTOUCHED, "ridge"].high == 0.0
    for scorer in ("knn", "ridge"):
        better = by_name["task", scorer]
        assert better.low > 0.02
        assert better.low < better.difference < better.high
        assert better.apgr == pytest.approx(by_name[UNTOUCHED, scorer].apgr + better.difference)


def test_a_classifiers_own_heads_are_scored_beside(
    problem: tuple[Problem, np.ndarray, np.ndarray],
) -> None:
    at, train, test = problem
    weights = np.random.default_rng(0).standard_normal((33, 3)).astype(np.float32)
    heads = TunedHeads(
        ("small", "medium", "large"), ClassifierHeads(weights), "large", "small", PairHead(weights)
    )
    found = predictions(at, Tuned("classifier", Path(), heads), train, test)
    quality = heads.quality.quality(test[at.test])
    assert found["heads"] == pytest.approx(quality[:, 2] - quality[:, 0])
    assert found["win/tie/loss"] == pytest.approx(PairHead(weights).strong_wins(test[at.test]))
    other = predictions(at, Tuned("c", Path(), replace(heads, strong="medium")), train, test)
    assert "win/tie/loss" not in other, "a head for another pair says nothing about this one"
