"""Calibration curves: they follow the outcomes where there are many, and stay smooth where not."""

import numpy as np
import pytest

from app.lab.methods.calibration import PROBABLE, fit_curve
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.levels import HIGHEST, KNOTS, LOWEST, calibrated, knots


def test_a_curve_is_straight_between_its_knots_and_level_beyond() -> None:
    curves = np.stack([knots(), 0.5 * knots()])
    for raw in (-0.2, 0.013, 0.4, 1.249):
        assert calibrated(curves, np.array([raw, raw])) == pytest.approx([raw, 0.5 * raw], abs=1e-6)
    assert calibrated(curves, np.array([-9.0, 9.0])) == pytest.approx([LOWEST, 0.5 * HIGHEST])


def test_many_outcomes_are_followed_where_no_sigmoid_could() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.0, 1.0, 20_000)
    truth = np.where(raw < 0.5, 0.3, 0.6)
    curve = fit_curve(raw, (rng.random(len(raw)) < truth).astype(float))
    assert (np.diff(curve) >= 0).all()
    found = calibrated(np.tile(curve, (2, 1)), np.array([0.3, 0.8]))
    assert found == pytest.approx([0.3, 0.6], abs=0.03)


def test_few_outcomes_bend_the_usual_curve_and_make_no_steps() -> None:
    usual = sigmoid(PROBABLE.slope * knots() + PROBABLE.shift)
    assert fit_curve(np.empty(0), np.empty(0)) == pytest.approx(usual)
    few = fit_curve(np.array([0.4, 0.6]), np.array([0.0, 1.0]))
    assert np.abs(few - usual).max() < 0.25
    assert np.diff(few).max() < 0.05
    assert len(few) == KNOTS
