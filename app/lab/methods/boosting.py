"""Gradient-boosted trees by LightGBM, kept as the arrays that serving predicts with.

Small trees, slow steps and strong shrinkage: outcomes are single right or wrong answers, so nearly
all that a prompt's score varies by is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.routing.estimators.base import Array
from app.routing.estimators.trees import DEPTH, LEAVES, NODES

NEVER = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class BoostSettings:
    """`fewest` rows in a leaf, or a twentieth of the rows where that is less; `bags` are grown from
    different seeds and averaged.
    """

    rounds: int = 250
    rate: float = 0.03
    fewest: int = 80
    features: float = 0.4
    rows: float = 0.7
    shrinkage: float = 20.0
    bags: int = 1
    bins: int = 63


@dataclass(frozen=True, slots=True)
class Boosted:
    """One output: the library's models, to predict many rows with, and what serving reads."""

    models: tuple[Any, ...]
    trees: int
    """How many were asked for, of all bags together."""

    def predict(self, inputs: NDArray[np.float32]) -> Array:
        """(n,) for inputs (n, d)."""
        return np.asarray(np.mean([model.predict(inputs) for model in self.models], axis=0))

    def pack(self, columns: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        """Features, thresholds, leaves (see `Trees`), (trees, nodes or leaves); `columns` says what
        the serving features are called that the inputs were.
        """
        trees = [
            tree["tree_structure"]
            for model in self.models
            for tree in model.dump_model()["tree_info"]
        ]
        # Where nothing is left to split on, the library stops early: the other trees add nothing.
        features = np.zeros((self.trees, NODES), dtype=np.uint16)
        thresholds = np.full((self.trees, NODES), NEVER, dtype=np.float32)
        leaves = np.zeros((self.trees, LEAVES), dtype=np.float32)
        for at, tree in enumerate(trees):
            _fill(tree, 0, features[at], thresholds[at], leaves[at], columns)
        return features, thresholds, leaves / len(self.models)


def boost(
    inputs: NDArray[np.float32], target: Array, settings: BoostSettings, seed: int
) -> Boosted:
    """Fits squared error; the same inputs give the same trees.

    On one thread: with more, every small step waits for the slowest of them, and beside another
    busy process a fit of a second takes minutes.
    """
    lightgbm = require_lightgbm()
    models = []
    for bag in range(settings.bags):
        parameters = {
            "objective": "l2",
            "learning_rate": settings.rate,
            "num_leaves": LEAVES,
            "max_depth": DEPTH,
            "min_data_in_leaf": max(2, min(settings.fewest, len(target) // 20)),
            "feature_fraction": settings.features,
            "bagging_fraction": settings.rows,
            "bagging_freq": 1,
            "lambda_l2": settings.shrinkage,
            "max_bin": settings.bins,
            "seed": seed + bag,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(inputs, target, params={"verbose": -1})
        models.append(lightgbm.train(parameters, data, settings.rounds))
    return Boosted(tuple(models), settings.rounds * settings.bags)


def require_lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise DataError(
            "boosted trees need lightgbm: pip install 'pointsman[lab]', or choose another "
            "--estimator"
        ) from error
    return lightgbm


def _fill(
    node: Any,
    place: int,
    features: NDArray[np.uint16],
    thresholds: NDArray[np.float32],
    leaves: NDArray[np.float32],
    columns: NDArray[np.intp],
) -> None:
    """Copies a tree; where it ends early, all leaves below have its value."""
    if place >= NODES:
        leaves[place - NODES] = node["leaf_value"]
    elif "leaf_value" in node:
        for child in (2 * place + 1, 2 * place + 2):
            _fill(node, child, features, thresholds, leaves, columns)
    else:
        features[place] = columns[node["split_feature"]]
        thresholds[place] = _below(float(node["threshold"]))
        _fill(node["left_child"], 2 * place + 1, features, thresholds, leaves, columns)
        _fill(node["right_child"], 2 * place + 2, features, thresholds, leaves, columns)


def _below(threshold: float) -> np.float32:
    """The largest float32 that is not above the threshold: float32 values compare as they did."""
    nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))
