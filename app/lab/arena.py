"""RouterArena's view (2510.00202): one score from accuracy and cost, and how near each choice came
to the best that any of the models could have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BETA = 0.1
MOST_USD_PER_1K, LEAST_USD_PER_1K = 200.0, 0.0044


@dataclass(frozen=True, slots=True)
class Optimality:
    """How a choice compares with the optimal one: the best score, cheapest on ties.

    `selection`: of the prompts answered as well as any model could, the share sent to the cheapest
    such model. `cost_ratio`: optimal cost over cost spent, on these prompts. `accuracy_ratio`: mean
    score over the optimal mean score, on all prompts. Prompts that no model answered count in none
    of them. nan where there is nothing to compare.
    """

    selection: float
    cost_ratio: float
    accuracy_ratio: float


def arena_score(quality: float, usd_per_1k: float) -> float:
    """S = (1 + b) A C / (b A + C), with C = 1 at $ 0.0044 for 1,000 queries or less and 0 at $ 200,
    on a scale of log2.
    """
    spent = min(max(usd_per_1k, LEAST_USD_PER_1K), MOST_USD_PER_1K)
    most = math.log2(MOST_USD_PER_1K)
    cheapness = (most - math.log2(spent)) / (most - math.log2(LEAST_USD_PER_1K))
    if quality + cheapness == 0.0:
        return 0.0
    return (1 + BETA) * quality * cheapness / (BETA * quality + cheapness)


def optimality(choice: NDArray[np.intp], scores: Array, costs: Array) -> Optimality:
    """Of a choice (n,) among models with these scores and costs (n, m)."""
    rows = np.arange(len(choice))
    best = scores.max(axis=1)
    answered = best > 0
    optimal_cost = np.where(scores == best[:, None], costs, np.inf).min(axis=1)
    got, spent = scores[rows, choice], costs[rows, choice]
    equal = answered & (got == best)
    return Optimality(
        selection=_ratio(float((spent <= optimal_cost)[equal].sum()), float(equal.sum())),
        cost_ratio=_ratio(float(optimal_cost[equal].sum()), float(spent[equal].sum())),
        accuracy_ratio=_ratio(float(got[answered].sum()), float(best[answered].sum())),
    )


def choose_within(
    quality: Array, low: Array, expected_costs: Array, keep: float
) -> NDArray[np.intp]:
    """The objective `quality` for many prompts at once: the cheapest model whose lower bound is at
    least `keep` of the best prediction, all (n, m). On equal costs the better one.
    """
    best = _first(-quality, expected_costs)
    rows = np.arange(len(quality))
    meets = low >= keep * quality[rows, best][:, None]
    meets[rows, best] = True
    return _first(np.where(meets, expected_costs, np.inf), -quality)


def _first(key: Array, then: Array) -> NDArray[np.intp]:
    """Column of the least key in each row; among equal keys, of the least `then`."""
    least = key == key.min(axis=1, keepdims=True)
    found: NDArray[np.intp] = np.argmin(np.where(least, then, np.inf), axis=1)
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
