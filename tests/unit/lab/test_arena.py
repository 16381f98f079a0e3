"""RouterArena's score and ratios at known values, and its choice against serving's objective."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.model import Model
from app.lab.arena import arena_score, choose_within, optimality
from app.routing.objective import Option, Quality


@pytest.mark.parametrize(
    ("quality", "cost", "score"),
    [
        (1.0, 0.0044, 1.0),
        (1.0, 0.0001, 1.0),
        (0.9, 200.0, 0.0),
        (0.9, 999.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 200.0, 0.0),
        # Half way on the scale of logarithms: C = 1/2.
        (0.8, (200 * 0.0044) ** 0.5, 1.1 * 0.8 * 0.5 / (0.08 + 0.5)),
        (0.5, 200 / (200 / 0.0044) ** 0.75, 1.1 * 0.5 * 0.75 / (0.05 + 0.75)),
    ],
)
def test_arena_score(quality: float, cost: float, score: float) -> None:
    assert arena_score(quality, cost) == pytest.approx(score)


def test_optimality() -> None:
    scores = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    costs = np.tile([1.0, 5.0], (4, 1))
    found = optimality(np.array([1, 1, 1, 0]), scores, costs)
    assert found.selection == pytest.approx(2 / 3)
    assert found.cost_ratio == pytest.approx(7 / 11)
    assert found.accuracy_ratio == 1.0
    cheap = optimality(np.zeros(4, dtype=np.intp), scores, costs)
    assert (cheap.selection, cheap.cost_ratio) == (1.0, 1.0)
    assert cheap.accuracy_ratio == pytest.approx(2 / 3)


def test_where_no_model_is_right_there_is_no_ratio() -> None:
    found = optimality(np.zeros(2, dtype=np.intp), np.zeros((2, 2)), np.ones((2, 2)))
    assert np.isnan([found.selection, found.cost_ratio, found.accuracy_ratio]).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.2, 0.5, 0.52, 0.55, 0.9]),
            st.sampled_from([0.0, 0.01, 0.2]),
            st.integers(1, 4),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_chooses_as_serving_does(rows: list[tuple[float, float, int]]) -> None:
    options = [
        Option(Model(f"m{at}", "u", "x"), quality, quality - width, 1.0, 100.0, cost)
        for at, (quality, width, cost) in enumerate(rows)
    ]
    taken = Quality(keep=0.95).choose(options).order[0]
    quality, width, cost = np.array(rows).T
    at = choose_within(quality[None], (quality - width)[None], cost[None], 0.95)[0]
    assert (quality[at], cost[at]) == (taken.quality, taken.cost)
