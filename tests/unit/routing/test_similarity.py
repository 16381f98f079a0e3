"""The similarity-weighted Bradley-Terry, against closed forms and its own promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing.estimators.clusters import ClusterPrior, log_odds_of
from app.routing.estimators.knn import MISSING
from app.routing.estimators.levels import around
from app.routing.estimators.method import Near
from app.routing.estimators.similarity import (
    Comparisons,
    SimilarityWeighted,
    fit_strengths,
    prior_strengths,
    weights_of,
)

R, W, M = 254, 0, MISSING


def method(scores: list[list[int]], quality: list[float], ridge: float) -> SimilarityWeighted:
    array = np.array([quality])
    prior = ClusterPrior(log_odds_of(array), array, np.ones_like(array), array[0])
    return SimilarityWeighted(Comparisons(np.array(scores, dtype=np.uint8)), prior, ridge)


def near(similarities: list[float]) -> Near:
    array = np.array(similarities, dtype=np.float32)
    vector = np.zeros(2, np.float32)
    return Near("", vector, np.arange(len(array)), array, array, np.array([1.0]))


def test_weights_are_those_of_the_paper() -> None:
    similarities = np.array([0.8, 0.4, 0.0], dtype=np.float32)
    assert 100 * weights_of(similarities) == pytest.approx([100, 10 * 10**0.5, 10])
    assert np.isfinite(weights_of(np.array([-0.1, -0.2], dtype=np.float32))).all()


def test_of_a_pair_the_win_rate_is_the_weighted_share_of_wins() -> None:
    """Two wins, a tie and a loss, with hardly any ridge: the closed form."""
    similarities = [0.9, 0.8, 0.5, 0.2]
    fitted = method([[R, W], [R, R], [W, R], [R, W]], [0.5, 0.5], 1e-6)
    quality = fitted.quality(near(similarities))
    weights = weights_of(np.array(similarities, dtype=np.float32))
    share = weights @ [1.0, 0.5, 0.0, 1.0] / weights.sum()
    assert (1 + quality[0] - quality[1]) / 2 == pytest.approx(share, abs=1e-4)
    assert quality.mean() == pytest.approx(0.5)


def test_many_models_are_the_optimum_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    scores = np.where(rng.random((50, 4)) < 0.6, rng.integers(0, 2, (50, 4)) * 254, MISSING)
    comparisons = Comparisons(scores.astype(np.uint8))
    met, won = comparisons.sums(np.arange(50), np.full(50, 0.5, dtype=np.float32))
    assert met == pytest.approx(met.T)
    assert won + won.T == pytest.approx(met)
    prior = np.array([0.3, -0.3, 0.1, -0.1])
    strengths = fit_strengths(met, won, prior, 2.0)
    chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    slope = (won - met * chance).sum(axis=1) - 2.0 * (strengths - prior)
    assert slope == pytest.approx(0.0, abs=1e-3)


def test_without_comparisons_the_clusters_speak() -> None:
    fitted = method([[R, M, M], [M, W, M]], [0.9, 0.6, 0.3], 3.0)
    assert fitted.quality(near([0.9, 0.8])) == pytest.approx([0.9, 0.6, 0.3], abs=0.03)


def test_few_comparisons_make_no_model_unbeatable() -> None:
    one = method([[R, W]], [0.5, 0.5], 10.0).quality(near([0.9]))
    many = method([[R, W]] * 200, [0.5, 0.5], 10.0).quality(near([0.9] * 200))
    assert 0.0 < one[0] - one[1] < 0.1
    assert 0.8 < many[0] - many[1] <= 1.0


@given(st.floats(0.01, 0.99), st.integers(0, 60), st.integers(0, 60))
def test_the_gain_of_a_pair_does_not_depend_on_the_level(level: float, won: int, lost: int) -> None:
    met = np.array([[0.0, won + lost], [won + lost, 0.0]])
    wins = np.array([[0.0, won], [lost, 0.0]])
    strengths = fit_strengths(met, wins, np.zeros(2), 1.0)
    gain = float(np.tanh((strengths[0] - strengths[1]) / 2))
    quality = around(level, np.array([gain / 2, -gain / 2]))
    assert quality[0] - quality[1] == pytest.approx(gain)
    assert quality.min() >= 0.0
    assert quality.max() <= 1.0


def test_a_span_beyond_certainty_is_narrowed_in_order() -> None:
    quality = around(0.2, np.array([0.9, 0.0, -0.9]))
    assert quality == pytest.approx([1.0, 0.5, 0.0])
    assert around(0.4, np.array([0.1, -0.1])) == pytest.approx([0.5, 0.3])


def test_prior_strengths_expect_the_differences_they_come_from() -> None:
    quality = np.array([[0.9, 0.5], [0.2, 0.3]])
    strengths = prior_strengths(quality)
    expected = np.tanh((strengths[:, 0] - strengths[:, 1]) / 2)
    assert expected == pytest.approx(quality[:, 0] - quality[:, 1], abs=0.03)
