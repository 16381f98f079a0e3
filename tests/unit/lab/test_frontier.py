"""Quality against money: hull, AIQ, savings and QNC against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.lab.frontier import (
    aiq,
    hull,
    hull_vertices,
    least_cost,
    pair_settings,
    pool_settings,
    single_settings,
)
from app.lab.money import Market
from app.lab.resampling import Resamples

# Two prompts that both models answer and two that only the strong one does; it costs five times as
# much.
SCORES = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
COSTS = np.tile([1.0, 5.0], (4, 1))
PERFECT = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def market(scores: np.ndarray = SCORES, costs: np.ndarray = COSTS, strong: int = 1) -> Market:
    return Market.of(scores, costs, strong, Resamples(len(scores), 3, seed=0))


def figures(quality: np.ndarray) -> dict[str, float]:
    found = market().figures(market().settings(quality, COSTS))
    return {name: float(values[0]) for name, values in found.items()}


def test_aiq_of_two_points_is_the_height_of_the_line_between() -> None:
    cost, quality = np.array([1.0, 3.0]), np.array([0.5, 0.7])
    assert aiq(cost, quality, 1.0, 3.0) == pytest.approx(0.6)
    assert aiq(cost, quality, 1.0, 5.0) == pytest.approx((0.6 * 2 + 0.7 * 2) / 4)
    assert np.isnan(aiq(cost, quality, 1.0, 1.0))


def test_the_hull_leaves_out_what_a_mix_of_others_beats() -> None:
    cost = np.array([4.0, 1.0, 2.0, 2.0, 3.0, 3.0, 5.0])
    quality = np.array([0.9, 0.5, 0.5, 0.8, 0.7, 0.84, 0.9])
    x, y = hull(cost, quality)
    assert x.tolist() == [1.0, 2.0, 4.0]
    assert y.tolist() == [0.5, 0.8, 0.9]


def test_the_least_cost_may_lie_between_two_settings() -> None:
    cost = np.array([[1.0, 2.0, 4.0]] * 4)
    quality = np.array([[0.5, 0.7, 0.9]] * 3 + [[0.5, 0.9, 0.7]])
    target = np.array([0.8, 0.4, 0.95, 0.8])
    found = least_cost(cost, quality, target)
    assert found[[0, 1, 3]].tolist() == pytest.approx([3.0, 1.0, 1.75])
    assert np.isnan(found[2])


def test_a_perfect_ranking_saves_what_it_can() -> None:
    found = figures(PERFECT)
    # Half of the calls buy all quality: a cost of 3 instead of 5.
    assert found["qnc"] == pytest.approx(0.6, abs=1e-4)
    assert found["saving_90"] == pytest.approx(1 - 2.6 / 5, abs=1e-4)
    assert found["saving_95"] == pytest.approx(1 - 2.8 / 5, abs=1e-4)
    assert found["aiq"] == pytest.approx((0.75 * 2 + 1.0 * 2) / 4, abs=1e-4)


def test_ignorance_is_a_straight_line() -> None:
    found = figures(np.zeros((4, 2)))
    assert found["qnc"] == pytest.approx(1.0, abs=1e-4)
    assert found["saving_90"] == pytest.approx(1 - 4.2 / 5, abs=1e-4)
    assert found["aiq"] == pytest.approx(0.75, abs=1e-4)
    zero = market().figures(market().zero())
    assert zero["saving_90"][0] == pytest.approx(1 - 4.2 / 5, abs=1e-4)


def test_what_is_never_reached_is_not_a_number() -> None:
    # Always the weak one first: the strong one's quality is there only at its whole cost. A pool
    # of three that never picks the strong model does not reach it at all.
    scores = np.column_stack((SCORES, np.zeros(4)))
    costs = np.column_stack((COSTS, np.full(4, 2.0)))
    three = market(scores, costs)
    found = three.figures(three.settings(np.tile([0.9, 0.1, 0.1], (4, 1)), costs))
    assert np.isnan(found["qnc"][0])
    assert np.isnan(found["saving_90"][0])
    assert found["aiq"][0] == pytest.approx(0.5)


def test_a_pool_is_swept_from_cheapest_to_best() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    costs = np.tile([1.0, 2.0, 10.0], (3, 1))
    cost, quality = pool_settings(scores, costs, scores, costs).points()
    assert cost.tolist() == pytest.approx([1.0, 4 / 3, 13 / 3])
    assert quality.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert single_settings(scores, costs).points()[0].tolist() == [1.0, 2.0, 10.0]


def test_ties_are_shared_out() -> None:
    settings = pair_settings(np.zeros(4), SCORES, COSTS, strong=1, weak=0, steps=3)
    cost, quality = settings.points()
    assert cost.tolist() == [1.0, 3.0, 5.0]
    assert quality.tolist() == [0.5, 0.75, 1.0]


def test_at_its_own_cost_no_model_is_better_than_the_oracle() -> None:
    ahead = market().ahead_of_singles(market().settings(SCORES, COSTS))
    assert ahead[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    worse = np.column_stack((SCORES, [0.0, 0.0, 0.0, 1.0]))
    three = market(worse, np.column_stack((COSTS, np.full(4, 3.0))))
    assert three.ahead_of_singles(three.settings(worse, three.costs))[0][2] == pytest.approx(0.75)


@given(
    hnp.arrays(np.float64, (12, 3), elements=st.sampled_from([0.0, 0.5, 1.0])),
    hnp.arrays(np.float64, (12, 3), elements=st.floats(0, 1)),
)
def test_nothing_beats_the_oracle(scores: np.ndarray, guess: np.ndarray) -> None:
    costs = np.tile([1.0, 3.0, 9.0], (12, 1))
    three = market(scores, costs, strong=2)
    best = three.figures(three.settings(scores, costs))["aiq"][0]
    assert three.figures(three.settings(guess, costs))["aiq"][0] <= best + 1e-3
    assert three.figures(three.zero())["aiq"][0] <= best + 1e-3


# Thousandths: between denormal costs, which no price has, a slope is more than a float can hold.
@given(hnp.arrays(np.float64, (9, 2), elements=st.integers(0, 1000).map(lambda n: n / 1000)))
def test_the_hull_rises_and_bends_down(points: np.ndarray) -> None:
    vertices = hull_vertices(points[:, 0], points[:, 1])
    x, y = points[vertices].T
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    assert (np.diff(np.diff(y) / np.diff(x)) <= 1e-6).all()
    assert y[-1] == points[:, 1].max()
