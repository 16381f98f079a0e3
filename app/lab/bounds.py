"""Is a bounded mean below zero? Three one-sided tests at level delta, over many columns at once.

Each takes losses (n, T) in [low, high], the rows exchangeable draws, and answers for every column
whether the hypothesis "its mean is at least 0" is rejected. Under that hypothesis `bernstein` and
`betting` reject with probability at most delta at every n; `normal` does so only as n grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BoundName = Literal["betting", "bernstein", "normal"]

MOST_STEPS = 2000
"""Bets in one test; with more rows than this, a bet covers several."""
_BOLDEST = 0.95
"""Share of the capital that one row may take at most."""
_OVERSHOOT = math.log(1.15)
"""Bets aim this far beyond the goal: those that aim at the goal itself die out just short of it."""
_BOUND_STEPS = 240


class Bound(Protocol):
    """Rejects "mean at least 0" by column, (T,)."""

    def __call__(
        self, losses: Array, delta: float, low: float, high: float
    ) -> NDArray[np.bool_]: ...


def normal(losses: Array, delta: float, low: float, high: float) -> NDArray[np.bool_]:
    """By the central limit theorem: mean + z sd / sqrt(n) <= 0. For comparison: no promise at any
    finite n, though it keeps close to one where n is in the hundreds.
    """
    z = NormalDist().inv_cdf(1 - delta)
    return np.asarray(_mean(losses) + z * np.sqrt(_variance(losses) / len(losses)) <= 0)


def bernstein(losses: Array, delta: float, low: float, high: float) -> NDArray[np.bool_]:
    """Empirical Bernstein bound (Maurer and Pontil 2009, theorem 4)."""
    n, log_term = len(losses), math.log(2 / delta)
    spread = np.sqrt(2 * _variance(losses) * log_term / n)
    range_term = 7 * (high - low) * log_term / (3 * max(n - 1, 1))
    return np.asarray(_mean(losses) + spread + range_term <= 0)


def betting(losses: Array, delta: float, low: float, high: float) -> NDArray[np.bool_]:
    """Bets against the hypothesis, row by row, and rejects once a capital of 1 has become 1/delta.

    With a stake fixed before a row is seen, the factor 1 - stake * loss has mean at most 1 under
    the hypothesis and is never negative for stakes below 1 / high; so the capital is a
    supermartingale, and reaches 1/delta with probability at most delta (Ville). Any rule for the
    stake is valid (Waudby-Smith and Ramdas, 2010.09686); the rule decides the power. Here the
    number of rows is known, so the capital should end at 1/delta or be spent, and nothing between:
    it is run as the hedge of an option that pays 1/delta if the sum of losses ends low enough. If
    sums were normal, the share p = delta * capital of the goal would call for a stake of

        phi(z) / (p * sd of what is still to come),   z the p-quantile, phi the normal density,

    which is recalculated from the capital at hand before every bet. STaR-Bets (Voracek and Orabona,
    2505.22422) has the same idea with Hoeffding's and Bernstein's stakes. It loses little against
    `normal`; the stake that is optimal without knowing n (the paper first named) loses much more.
    The order of the rows must not depend on the losses.
    """
    n, columns = losses.shape
    shares, stakes = _hedge()
    log_share = np.full(columns, math.log(delta))
    # One imagined loss of half the range, until there are real ones.
    squares, seen = np.full(columns, (high - low) ** 2 / 4), 1
    step = -(-n // MOST_STEPS)
    for start in range(0, n, step):
        batch = losses[start : start + step]
        to_come = np.sqrt(squares / seen * (n - start))
        stake = np.interp(log_share - _OVERSHOOT, shares, stakes) / to_come
        stake = np.minimum(stake, _BOLDEST / high)
        factors = np.log1p(-stake * batch).sum(axis=0)
        log_share = np.where(log_share >= 0, log_share, log_share + factors)
        squares += np.einsum("ij,ij->j", batch, batch)
        seen += len(batch)
    return log_share >= 0


BOUNDS: Mapping[str, Callable[[Array, float, float, float], NDArray[np.bool_]]] = {
    "betting": betting,
    "bernstein": bernstein,
    "normal": normal,
}


def upper_bound(bound: BoundName, losses: Array, delta: float, low: float, high: float) -> float:
    """The least m found such that "mean at least m" is rejected for it and all above, up to 0; of
    losses (n,). It bounds the mean from above with confidence 1 - delta. 0 if nothing below holds.
    """
    steps = np.linspace(0.0, min(float(losses.mean()), 0.0), _BOUND_STEPS)
    # Moving the losses moves their range; both ends, so that every column fits into one.
    rejected = BOUNDS[bound](losses[:, None] - steps, delta, low, high - float(steps[-1]))
    passed = int(np.argmin(rejected)) if not rejected.all() else len(steps)
    return float(steps[max(passed - 1, 0)])


@cache
def _hedge() -> tuple[Array, Array]:
    """A table of log p against phi(z) / p, p the normal distribution function at z."""
    z = np.linspace(-12.0, 8.0, 4001)
    share = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return np.log(share), density / share


def _mean(losses: Array) -> Array:
    return np.asarray(losses.mean(axis=0))


def _variance(losses: Array) -> Array:
    if len(losses) < 2:
        return np.full(losses.shape[1], np.inf)
    return np.asarray(losses.var(axis=0, ddof=1))
