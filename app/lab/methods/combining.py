"""The middle level of the stack: for each panel, trees and a linear stack make one prediction of
all views, weighed against each other by what they are worth on folds that neither has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.methods.boosting import Boosted, BoostSettings, boost
from app.lab.methods.views import ridge
from app.routing.estimators.base import Array
from app.routing.estimators.views import Floats, Layout

LINEAR_PENALTY = 300.0

USUAL = 0.005
"""A feature counts in the line as far as all but this part of a panel's rows reach, on either side.
Beyond, a straight line knows nothing: one panel's prompts may all have ten options and none of
another panel's neighbours, and most requests have neither.
"""


@dataclass(frozen=True, slots=True)
class Combined:
    """What serving combines a panel's features with, of which it looks at `columns`: trees for each
    departure, with the weight `mix`, and with the rest of it `linear` (columns, 1 + k) and `bias`,
    on features held between `low` and `high` (columns,).
    """

    boosted: tuple[Boosted, ...]
    linear: Array
    bias: Array
    mix: float
    columns: NDArray[np.intp]
    low: Array
    high: Array


def combine(
    rows: NDArray[np.intp],
    targets: Array,
    features: Floats,
    columns: NDArray[np.intp],
    folds: NDArray[np.intp],
    settings: BoostSettings,
    seed: int,
) -> tuple[Combined, Array]:
    """Fitted to `targets` (n, 1 + k) on these of the rows of `features` (rows, f); and each one's
    departures (n, 1 + k) from a fit on the other `folds` (rows,).
    """
    inputs = np.ascontiguousarray(features[rows][:, columns])
    low, high = np.quantile(inputs, [USUAL, 1.0 - USUAL], axis=0).astype(np.float32)
    inputs = np.clip(inputs, low, high)
    of_row = folds[rows]
    trees, linear = np.zeros((2, *targets.shape))
    for fold in np.unique(of_row):
        train, test = of_row != fold, of_row == fold
        if train.sum() < 2:
            continue
        weights, bias = _linear_stack(inputs[train], targets[train])
        linear[test] = inputs[test] @ weights + bias
        for at, each in enumerate(_boost(inputs[train], targets[train], settings, seed)):
            trees[test, at] = each.predict(inputs[test])
    mix = share(targets - linear, trees - linear)
    weights, bias = _linear_stack(inputs, targets)
    made = Combined(_boost(inputs, targets, settings, seed), weights, bias, mix, columns, low, high)
    return made, mix * trees + (1.0 - mix) * linear


def pack(kind: str, combined: Sequence[Combined], layout: Layout) -> dict[str, NDArray[Any]]:
    """Trees of all departures, and the linear stack over all features, as serving reads them."""
    count = 1 + max(int(each.columns.max()) for each in combined)
    linear = np.zeros((count, layout.departures), dtype=np.float32)
    bias = np.zeros(layout.departures, dtype=np.float32)
    low, high = np.zeros((2, layout.departures, count), dtype=np.float32)
    packed: list[tuple[NDArray[Any], ...]] = []
    for at, each in enumerate(combined):
        inside = layout.of(at)
        linear[each.columns, inside] = (1.0 - each.mix) * each.linear
        bias[inside] = (1.0 - each.mix) * each.bias
        low[inside, each.columns], high[inside, each.columns] = each.low, each.high
        for model in each.boosted:
            features, thresholds, leaves = model.pack(each.columns)
            packed.append((features, thresholds, each.mix * leaves))
    features, thresholds, leaves = (np.stack(each) for each in zip(*packed, strict=True))
    return {
        f"{kind}_features": features,
        f"{kind}_thresholds": thresholds,
        f"{kind}_leaves": leaves.astype(np.float16),
        f"{kind}_linear": linear,
        f"{kind}_bias": bias,
        f"{kind}_low": low,
        f"{kind}_high": high,
    }


def _boost(
    inputs: Floats, targets: Array, settings: BoostSettings, seed: int
) -> tuple[Boosted, ...]:
    return tuple(boost(inputs, target, settings, seed + at) for at, target in enumerate(targets.T))


def _linear_stack(inputs: Floats, targets: Array) -> tuple[Array, Array]:
    """Ridge on standardised inputs, as weights of the inputs as they are."""
    mean = inputs.mean(axis=0, dtype=np.float64)
    scale = np.maximum(inputs.std(axis=0, dtype=np.float64), 1e-6)
    weights, bias = ridge((inputs - mean) / scale, targets, LINEAR_PENALTY)
    weights = weights / scale[:, None]
    return weights, np.asarray(bias - mean @ weights)


def share(target: Array, step: Array) -> float:
    """The part of a step, from 0 to 1, that comes closest to the target."""
    size = float((step * step).sum())
    return min(1.0, max(0.0, float((target * step).sum()) / size)) if size > 0 else 0.0
