"""Metrics against values worked out by hand, and properties that hold for any data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.lab.metrics import bootstrap_interval, exact_curve, routellm_curve, task_mean_gain

WEAK = np.array([1.0, 0.0, 1.0, 0.0])
STRONG = np.array([1.0, 1.0, 1.0, 1.0])


def test_perfect_and_worst_order() -> None:
    perfect = exact_curve(STRONG - WEAK, WEAK, STRONG)
    assert perfect.quality.tolist() == [0.5, 0.75, 1.0, 1.0, 1.0]
    assert perfect.apgr() == pytest.approx(0.75)
    assert perfect.cpt(0.5) == 0.25
    assert perfect.cpt(0.75) == pytest.approx(0.375)
    worst = exact_curve(WEAK - STRONG, WEAK, STRONG)
    assert worst.apgr() == pytest.approx(0.25)


def test_ties_count_in_expectation() -> None:
    constant = np.zeros(4)
    assert exact_curve(constant, WEAK, STRONG).apgr() == pytest.approx(0.5)


def test_undefined_where_models_are_equal() -> None:
    curve = exact_curve(np.arange(4.0), WEAK, WEAK)
    assert np.isnan(curve.apgr())
    assert np.isnan(curve.cpt(0.5))


def test_routellm_form_runs_from_all_weak_to_all_strong() -> None:
    rng = np.random.default_rng(0)
    weak, strong = (rng.random(500) < p for p in (0.5, 0.8))
    gain = rng.random(500)
    curve = routellm_curve(gain, weak.astype(float), strong.astype(float))
    assert (curve.share[0], curve.share[-1]) == (0.0, 1.0)
    exact = exact_curve(gain, weak.astype(float), strong.astype(float))
    assert curve.apgr() == pytest.approx(exact.apgr(), abs=0.05)


def test_task_mean_falls_back_to_the_overall_mean() -> None:
    gain = task_mean_gain(["a", "a", "b"], np.array([1.0, 0.0, -1.0]), ["a", "b", "new"])
    assert gain.tolist() == pytest.approx([0.5, -1.0, 0.0])


def test_bootstrap_holds_the_figure_and_repeats() -> None:
    rng = np.random.default_rng(1)
    weak = (rng.random(300) < 0.5).astype(float)
    strong = (rng.random(300) < 0.8).astype(float)
    gain = strong - weak + rng.normal(0, 1, 300)
    low, high = bootstrap_interval(gain, weak, strong, seed=3)
    assert low < exact_curve(gain, weak, strong).apgr() < high
    assert (low, high) == bootstrap_interval(gain, weak, strong, seed=3)


@given(
    hnp.arrays(np.float64, 30, elements=st.floats(-1, 1)),
    hnp.arrays(np.float64, 30, elements=st.sampled_from([0.0, 1.0])),
)
def test_a_curve_ends_at_the_models(gain: np.ndarray, weak: np.ndarray) -> None:
    strong = np.ones(30)
    curve = exact_curve(gain, weak, strong)
    assert curve.weak == pytest.approx(weak.mean())
    assert curve.strong == pytest.approx(1.0)
    assert (np.diff(curve.quality) >= -1e-12).all()
