"""Estimates and intervals: shapes and bounds that hold for any input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing.estimators.base import Estimate
from app.routing.estimators.clusters import ClusterTable, ClusterVotes, Standing, sigmoid
from app.routing.estimators.knn import MISSING, KnnSettings, LocalEvidence, Neighbourhood, kernel
from app.routing.estimators.lengths import decode_tokens, encode_tokens
from app.routing.estimators.novelty import NoveltyScale


def estimate(quality: float, support: float) -> Estimate:
    return Estimate(("m",), np.array([quality]), np.array([support]), np.array([np.nan]), 0.0)


@given(st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 0.999))
def test_an_interval_holds_the_quality_and_stays_in_bounds(
    quality: float, support: float, level: float
) -> None:
    low, high = estimate(quality, support).interval(level)
    assert 0.0 <= low[0] <= quality + 1e-9
    assert quality - 1e-9 <= high[0] <= 1.0


@pytest.mark.parametrize(
    ("quality", "support", "low", "high"),
    # Quantiles of Beta(p n, (1 - p) n) at .05 and .95.
    [(0.5, 100, 0.418, 0.582), (0.8, 50, 0.701, 0.885), (0.9, 200, 0.863, 0.932)],
)
def test_an_interval_is_close_to_the_beta_quantiles(
    quality: float, support: float, low: float, high: float
) -> None:
    bounds = estimate(quality, support).interval(0.9)
    assert bounds[0][0] == pytest.approx(low, abs=0.02)
    assert bounds[1][0] == pytest.approx(high, abs=0.02)


def test_more_support_is_a_narrower_interval() -> None:
    widths = [np.ptp(estimate(0.7, n).interval()) for n in (1, 10, 100, 1000)]
    assert widths == sorted(widths, reverse=True)


def table() -> ClusterTable:
    ease = np.array([1.0, -1.0], dtype=np.float32)
    ability = np.array([0.0, 2.0], dtype=np.float32)
    return ClusterTable(
        cells=ease[:, None] + ability[None, :],
        counts=np.full((2, 2), 50, dtype=np.float32),
        ability=ability,
        ease=ease,
        spread=np.array([0.0, 1.5], dtype=np.float32),
        weights=np.array([0.25, 0.75], dtype=np.float32),
    )


@given(st.floats(0.01, 0.99))
def test_a_stated_quality_is_the_mean_over_the_outcomes(quality: float) -> None:
    fitted = table()
    standing = Standing(None, fitted.ability_for(quality), False, 5.0)
    prior = fitted.prior([standing])
    assert prior.overall[0] == pytest.approx(quality, abs=1e-3)
    assert prior.quality[0, 0] > prior.quality[1, 0]


def test_the_nearest_say_what_kind_of_prompt_it_is() -> None:
    votes = ClusterVotes(np.array([0, 0, 1, 2], dtype=np.uint16), 3, 0.06)
    rows = np.array([2, 0, 1])
    shares = votes.shares(rows, np.array([0.9, 0.5, 0.5], dtype=np.float32))
    assert shares.sum() == pytest.approx(1.0)
    assert shares[1] > 0.95
    assert shares[2] == 0.0


def test_a_difference_rests_on_prompts_both_were_scored_on() -> None:
    """Two equal models: one is scored on the easy neighbours, the other on the hard ones."""
    scores = np.full((100, 2), MISSING, dtype=np.uint8)
    scores[:50, 0], scores[50:, 1] = 254, 0
    difficulty = np.where(np.arange(100) < 50, 3.0, -3.0)
    evidence = LocalEvidence(scores, np.zeros((100, 2)), difficulty, KnnSettings())
    weights = kernel(np.full(100, 0.8, dtype=np.float32), KnnSettings())
    shift = evidence.shift(np.arange(100), weights)
    assert abs(shift.common) < 0.1
    gap = sigmoid(shift.own)[0] - sigmoid(shift.own)[1]
    assert gap < 0.5 < 254 / 254


def test_support_counts_labelled_neighbours_only() -> None:
    scores = np.full((10, 2), MISSING, dtype=np.uint8)
    scores[:4, 0] = 254
    neighbourhood = Neighbourhood(scores, KnnSettings())
    weights = neighbourhood.weights(np.full(10, 0.7, dtype=np.float32))
    assert neighbourhood.support(np.arange(10), weights) == pytest.approx([4.0, 0.0])
    evidence = LocalEvidence(scores, np.zeros((10, 2)), np.zeros(10), KnnSettings())
    assert evidence.shift(np.arange(10), weights).own[1] == 0.0


def test_novelty_runs_between_two_densities() -> None:
    scale = NoveltyScale(familiar=0.4, strange=0.3)
    similar = [np.full(20, s, dtype=np.float32) for s in (0.8, 0.4, 0.35, 0.3, -0.2)]
    assert [scale.novelty(s) for s in similar] == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-5)
    assert scale.novelty(np.empty(0, dtype=np.float32)) == 1.0


@given(st.floats(1, 20_000))
def test_lengths_keep_two_percent(tokens: float) -> None:
    codes = encode_tokens(np.array([tokens, np.nan], dtype=np.float32))
    decoded = decode_tokens(codes)
    assert decoded[0] == pytest.approx(tokens, rel=0.021)
    assert decoded[1] == 0.0
