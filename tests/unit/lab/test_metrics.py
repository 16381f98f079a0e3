"""Metrics against values worked out by hand, and properties that hold for any data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.lab.metrics import exact_curve, routellm_curve
from app.lab.resampling import Resamples, interval, resampled_apgr

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


def test_undefined_where_there_is_no_gap_to_recover() -> None:
    for strong in (WEAK, np.zeros(4)):
        curve = exact_curve(np.arange(4.0), WEAK, strong)
        assert np.isnan(curve.apgr())
        assert np.isnan(curve.cpt(0.5))
        assert np.isnan(curve.cpt_routellm(0.5))


def test_recovered_gap_and_kept_quality_by_hand() -> None:
    perfect = exact_curve(STRONG - WEAK, WEAK, STRONG)
    assert perfect.pgr(0.25) == pytest.approx(0.5)
    assert perfect.pgr(0.125) == pytest.approx(0.25)
    assert perfect.share_keeping(0.9) == pytest.approx(0.4)
    assert perfect.share_keeping(0.4) == 0.0


def test_routellm_form_runs_from_all_weak_to_all_strong() -> None:
    rng = np.random.default_rng(0)
    weak, strong = (rng.random(500) < p for p in (0.5, 0.8))
    gain = rng.random(500)
    curve = routellm_curve(gain, weak.astype(float), strong.astype(float))
    assert (curve.share[0], curve.share[-1]) == (0.0, 1.0)
    exact = exact_curve(gain, weak.astype(float), strong.astype(float))
    assert curve.apgr() == pytest.approx(exact.apgr(), abs=0.05)


def test_routellm_form_by_hand() -> None:
    gain = np.arange(1.0, 11.0)
    strong = np.ones(10)
    weak = (gain <= 5).astype(float)
    curve = routellm_curve(gain, weak, strong)
    # Edges at 1, 1.9, ... 10: strong at or above each but the last, which is all-weak.
    assert curve.share.tolist() == pytest.approx([at / 10 for at in range(11)])
    assert curve.quality.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, *[1.0] * 6])
    assert curve.apgr() == pytest.approx(0.75)
    assert curve.cpt_routellm(0.5) == pytest.approx(0.25)


def test_where_a_curve_falls_the_exact_form_takes_the_first_crossing() -> None:
    curve = exact_curve(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([1.0, 0, 1]))
    assert curve.recovered().tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0])
    assert curve.cpt(0.5) == pytest.approx(1 / 6)


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


ANSWERS = hnp.arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.5, 1.0]))
GAINS = hnp.arrays(np.float64, 30, elements=st.floats(-1, 1))


@given(GAINS, ANSWERS, ANSWERS)
def test_nothing_beats_the_oracle(gain: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> None:
    best = exact_curve(strong - weak, weak, strong).apgr()
    assert np.isnan(best) or exact_curve(gain, weak, strong).apgr() <= best + 1e-9


@given(ANSWERS, ANSWERS)
def test_random_is_a_half(weak: np.ndarray, strong: np.ndarray) -> None:
    apgr = exact_curve(np.zeros(30), weak, strong).apgr()
    assert np.isnan(apgr) or apgr == pytest.approx(0.5)


@given(GAINS, ANSWERS, ANSWERS, st.permutations(range(30)))
def test_the_order_of_rows_does_not_count(
    gain: np.ndarray, weak: np.ndarray, strong: np.ndarray, order: list[int]
) -> None:
    for form in (exact_curve, routellm_curve):
        one = form(gain, weak, strong).apgr()
        assert one == pytest.approx(
            form(gain[order], weak[order], strong[order]).apgr(), nan_ok=True
        )


@given(GAINS, ANSWERS, ANSWERS)
def test_a_resample_is_scored_as_its_rows_would_be(
    gain: np.ndarray, weak: np.ndarray, strong: np.ndarray
) -> None:
    gain = np.round(gain, 1)
    resamples = Resamples(30, 5, seed=4)
    counts = np.concatenate(list(resamples.blocks())).astype(int)
    assert (counts.sum(axis=1) == 30).all()
    found = resampled_apgr(gain, weak, strong, resamples)
    for value, drawn in zip(found, counts, strict=True):
        rows = np.repeat(np.arange(30), drawn)
        # Only where the gap is not a rounding error.
        if strong[rows].sum() != weak[rows].sum():
            expected = exact_curve(gain[rows], weak[rows], strong[rows]).apgr()
            assert value == pytest.approx(expected, nan_ok=True)


def test_resampled_means_are_of_the_same_draws() -> None:
    resamples = Resamples(20, 7, seed=1)
    values = np.vstack((np.arange(20.0), np.arange(20.0) ** 2))
    counts = np.concatenate(list(resamples.blocks()))
    assert resamples.means(values) == pytest.approx(counts @ values.T / 20)


def test_an_interval_of_what_is_mostly_undefined_is_none() -> None:
    values = np.arange(100.0)
    assert interval(values, 0.9) == pytest.approx((4.95, 94.05))
    values[:6] = np.nan
    assert interval(values) is None
    assert interval(np.empty(0)) is None
