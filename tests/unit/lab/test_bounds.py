"""Bounds against figures worked out by hand, and against the error that each may make."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lab.bounds import BOUNDS, MOST_STEPS, bernstein, betting, normal, upper_bound

LOW, HIGH = -1.0, 0.95


def draws(mean: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Losses as they are in calibration: mostly -.05, sometimes .95 or -1, with this mean."""
    lost = 0.08
    won = (lost * 0.95 - mean - 0.05 * (1 - lost)) / 0.95
    uniform = np.random.default_rng(seed).random(shape)
    return np.select([uniform < lost, uniform < lost + won], [0.95, -1.0], -0.05)


def test_the_draws_have_the_mean_they_say() -> None:
    for mean in (0.0, -0.02):
        assert draws(mean, (1000, 1000), 0).mean() == pytest.approx(mean, abs=1e-3)


def test_normal_by_hand() -> None:
    """Mean -.5 and sample variance .5 from -1 and 0: the bound is -.5 + z .5."""
    two = np.array([[-1.0], [0.0]])
    assert normal(two, 0.17, LOW, HIGH)[0]  # z = .954
    assert not normal(two, 0.15, LOW, HIGH)[0]  # z = 1.036


def test_bernstein_by_hand() -> None:
    """With no variance the bound is mean + 7 (high - low) ln(2 / delta) / (3 (n - 1))."""
    margin = 7 * 1.95 * math.log(20) / 300
    assert margin == pytest.approx(0.1363, abs=1e-4)
    both = np.tile([-margin - 1e-6, -margin + 1e-6], (101, 1))
    assert bernstein(both, 0.1, LOW, HIGH).tolist() == [True, False]
    # Half at m - .1 and half at m + .1: variance .01 n / (n - 1).
    n = 100
    spread = math.sqrt(2 * 0.01 * n / (n - 1) * math.log(20) / n)
    margin = spread + 7 * 1.95 * math.log(20) / (3 * (n - 1))
    side = np.where(np.arange(n) % 2, 0.1, -0.1)[:, None]
    both = side + np.array([-margin - 1e-6, -margin + 1e-6])
    assert bernstein(both, 0.1, LOW, HIGH).tolist() == [True, False]


def test_betting_needs_as_many_rows_as_the_boldest_stake_does() -> None:
    """A row that loses nothing and gains .05 adds at most 5 % to the capital, so ten times the
    capital takes at least ln 10 / ln 1.05 = 47.2 rows.
    """
    assert not betting(np.full((47, 1), -0.05), 0.1, LOW, HIGH)[0]
    assert betting(np.full((60, 1), -0.05), 0.1, LOW, HIGH)[0]


def test_one_row_at_most_doubles_the_capital() -> None:
    """1 + .95 / .95, the boldest stake on the best row: never enough for a delta below a half."""
    assert not betting(np.array([[-1.0]]), 0.49, LOW, HIGH)[0]
    assert betting(np.full((4, 1), -1.0), 0.1, LOW, HIGH)[0]


@pytest.mark.parametrize("n", [30, 300, 3 * MOST_STEPS])
@pytest.mark.parametrize("delta", [0.02, 0.1, 0.3])
def test_error_stays_within_delta(n: int, delta: float) -> None:
    """At the edge of the hypothesis, the mean exactly 0. Betting uses most of what it may."""
    columns = 4000 if n < 1000 else 600
    losses = draws(0.0, (n, columns), seed=n)
    allowance = 3 * math.sqrt(delta * (1 - delta) / columns)
    for name in ("betting", "bernstein"):
        assert BOUNDS[name](losses, delta, LOW, HIGH).mean() <= delta + allowance, name
    if n >= 300 and delta >= 0.1:
        assert betting(losses, delta, LOW, HIGH).mean() > 0.6 * delta


def test_betting_has_nearly_the_power_of_the_normal_bound() -> None:
    losses = draws(-0.012, (1000, 1000), seed=3)
    power = {name: bound(losses, 0.1, LOW, HIGH).mean() for name, bound in BOUNDS.items()}
    assert power["bernstein"] < 0.05
    assert power["normal"] - 0.12 < power["betting"] <= power["normal"]


COLUMN = st.lists(st.sampled_from([-1.0, -0.525, -0.05, 0.0, 0.45, 0.95]), min_size=2, max_size=80)


@settings(max_examples=60, deadline=None)
@given(COLUMN, st.floats(0.01, 0.4), st.floats(0.0, 0.5))
def test_closed_bounds_are_monotone(column: list[float], delta: float, by: float) -> None:
    """Lower losses and a larger delta are never harder to reject; a mean above 0 never is."""
    losses = np.array(column)[:, None]
    for name in ("normal", "bernstein"):
        rejects = BOUNDS[name]
        if rejects(losses, delta, LOW - 0.5, HIGH)[0]:
            assert losses.mean() <= 0
            assert rejects(losses - by, delta, LOW - 0.5, HIGH)[0]
            assert rejects(losses, delta + 0.05, LOW - 0.5, HIGH)[0]


def test_columns_do_not_touch_each_other() -> None:
    losses = draws(-0.01, (400, 30), seed=5)
    for bound in BOUNDS.values():
        alone = [bool(bound(losses[:, [at]], 0.1, LOW, HIGH)[0]) for at in range(30)]
        assert bound(losses, 0.1, LOW, HIGH).tolist() == alone


def test_the_normal_upper_bound_by_hand() -> None:
    losses = draws(-0.03, (2000, 1), seed=6)[:, 0]
    by_hand = losses.mean() + 1.2816 * losses.std(ddof=1) / math.sqrt(2000)
    assert upper_bound("normal", losses, 0.1, LOW, HIGH) == pytest.approx(by_hand, abs=2e-4)
    assert upper_bound("betting", np.full(20, 0.1), 0.1, LOW, HIGH) == 0.0
