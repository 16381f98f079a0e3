"""Quality against money: what a method gets for what it spends, at each of its settings.

A method that ranks a pair has a threshold; one that predicts a pool of models has the price of
quality, lambda, in argmax q - lambda c. Each setting is a mean cost and a mean quality. From these
points come RouterBench's AIQ (2403.12031), the saving at a share of the strongest model's quality,
and QNC, the share of its cost that buys all of its quality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEPS = 201
"""Settings tried: half a percent of strong calls apart for a pair."""

_LEAST_LAMBDA, _MOST_LAMBDA = 1e-4, 1e5
"""In quality per the difference between the dearest and the cheapest model's mean cost: from where
money only breaks ties to where nothing else counts.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What each prompt (columns) gets and costs, in dollars, under each setting (rows), from the
    cheapest setting to the best. Between neighbouring settings one may mix at random.
    """

    quality: NDArray[np.float32]
    cost: NDArray[np.float32]

    def points(self) -> tuple[Array, Array]:
        """Mean cost and mean quality of each setting."""
        return self.cost.mean(axis=1, dtype=np.float64), self.quality.mean(axis=1, dtype=np.float64)


def pair_settings(
    gain: Array, scores: Array, costs: Array, *, strong: int, weak: int, steps: int = STEPS
) -> Settings:
    """Thresholds of predicted gain, one for each of `steps` shares of strong calls.

    Prompts with equal gain go to the strong model in equal parts, as in the mean over their random
    orders.
    """
    n = len(gain)
    order = np.argsort(-gain, kind="stable")
    _, start, inverse, size = np.unique(
        -gain[order], return_index=True, return_inverse=True, return_counts=True
    )
    begins, many = np.empty(n), np.empty(n)
    begins[order], many[order] = start[inverse], size[inverse]
    calls = np.linspace(0.0, n, steps)[:, None]
    to_strong = np.clip((calls - begins) / many, 0.0, 1.0)
    return Settings(
        *(
            (value[:, weak] + to_strong * (value[:, strong] - value[:, weak])).astype(np.float32)
            for value in (scores, costs)
        )
    )


def pool_settings(
    quality: Array, expected_costs: Array, scores: Array, costs: Array, steps: int = STEPS
) -> Settings:
    """argmax q - lambda c over all models, (n, m) predicted, for lambdas from all for money to all
    for quality. Settings that choose alike count once.
    """
    means = expected_costs.mean(axis=0)
    span = float(means.max() - means.min()) or 1.0
    rows = np.arange(len(scores))
    chosen: list[NDArray[np.intp]] = []
    for scale in np.geomspace(_MOST_LAMBDA, _LEAST_LAMBDA, steps):
        choice = np.argmax(quality - (scale / span) * expected_costs, axis=1)
        if not chosen or not np.array_equal(choice, chosen[-1]):
            chosen.append(choice)
    return Settings(
        np.stack([scores[rows, choice] for choice in chosen]).astype(np.float32),
        np.stack([costs[rows, choice] for choice in chosen]).astype(np.float32),
    )


def single_settings(scores: Array, costs: Array) -> Settings:
    """The zero router: the models on the hull of all single models, cheapest first."""
    order = hull_vertices(costs.mean(axis=0), scores.mean(axis=0))
    return Settings(
        scores[:, order].T.astype(np.float32),
        costs[:, order].T.astype(np.float32),
    )


def hull_vertices(cost: Array, quality: Array) -> NDArray[np.intp]:
    """Which points make the non-decreasing convex hull, cheapest first: those that no mix of others
    beats at the same or less cost.
    """
    rising: list[int] = []
    best = -np.inf
    for at in np.lexsort((-quality, cost)):
        if quality[at] > best:
            best = quality[at]
            rising.append(int(at))
    kept: list[int] = []
    for at in rising:
        while len(kept) >= 2 and _under(cost, quality, kept[-2], kept[-1], at):
            kept.pop()
        kept.append(at)
    return np.array(kept, dtype=np.intp)


def hull(cost: Array, quality: Array) -> tuple[Array, Array]:
    """The non-decreasing convex hull of points, cheapest first."""
    vertices = hull_vertices(cost, quality)
    return cost[vertices], quality[vertices]


def aiq(cost: Array, quality: Array, low: float, high: float) -> float:
    """Average improvement in quality: the hull's mean height between two costs. nan where these are
    equal. Right of its last point the hull stays level; left of its first, it is taken for that.
    """
    if not high > low:
        return float("nan")
    x, y = hull(cost, quality)
    inside = (x > low) & (x < high)
    grid = np.concatenate(([low], x[inside], [high]))
    return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))


def least_cost(cost: Array, quality: Array, target: Array) -> Array:
    """The least mean cost at which settings, or a mix of neighbouring ones, reach a target.

    `cost` and `quality` (r, k): r resamples of k settings in their order, `target` (r,). nan where
    no setting reaches it.
    """
    short = target[:, None] - quality
    reached = np.where(short <= 0, cost, np.inf).min(axis=1)
    crosses = (short[:, :-1] <= 0) != (short[:, 1:] <= 0)
    step = quality[:, 1:] - quality[:, :-1]
    part = np.divide(short[:, :-1], step, out=np.zeros_like(step), where=crosses)
    between = cost[:, :-1] + part * (cost[:, 1:] - cost[:, :-1])
    crossed = np.where(crosses, between, np.inf).min(axis=1, initial=np.inf)
    found = np.minimum(reached, crossed)
    return np.where(np.isfinite(found), found, np.nan)


def _under(cost: Array, quality: Array, left: int, middle: int, right: int) -> bool:
    """Whether the middle point is not above the straight line from left to right."""
    rise = (quality[right] - quality[left]) * (cost[middle] - cost[left])
    return bool((quality[middle] - quality[left]) * (cost[right] - cost[left]) <= rise)
