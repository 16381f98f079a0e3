"""Fits how strongly the similarity-weighted ranking is held to the clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.pairs import pairs_to_try
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.similarity import fit_strengths, prior_strengths, weights_of

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""In comparisons on the nearest prompt; there are up to 160, of which the farther ones weigh
less.
"""


def fit_similarity(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """Chooses the ridge of least squared error out of fold, over pairs of models: of the expected
    difference of their scores against the real one. Raises DataError where no two models share a
    row.
    """
    pairs = pairs_to_try(ground)
    if not pairs:
        raise DataError(
            "no two models were scored on one prompt, so there is nothing to compare; "
            "train another --estimator"
        )
    weights = weights_of(ground.unseen.similarities) * (ground.unseen.rows >= 0)
    error = np.mean([_errors(ground, weights, pair) for pair in pairs], axis=0)
    return FittedMethod(
        "similarity-weighted",
        settings={
            "ridge": RIDGES[int(np.argmin(error))],
            "tried": {str(r): round(float(e), 5) for r, e in zip(RIDGES, error, strict=True)},
        },
    )


def _errors(ground: Ground, weights: NDArray[np.float32], pair: tuple[int, int]) -> Array:
    """Mean squared error for each ridge."""
    scores = ground.table.scores[:, pair]
    gain = scores[:, 0] - scores[:, 1]
    rows = np.flatnonzero(~np.isnan(gain))
    near, weights = ground.unseen.rows[rows], weights[rows]
    compared = weights * ~np.isnan(gain)[near]
    won = (compared * np.nan_to_num(0.5 + 0.5 * gain)[near]).sum(axis=1)
    total = compared.sum(axis=1)
    prior = prior_strengths(sigmoid(ground.unseen.prior[rows][:, pair].astype(np.float64)))
    errors = []
    for ridge in RIDGES:
        strengths = fit_strengths(_square(total, total), _square(won, total - won), prior, ridge)
        expected = np.tanh(0.5 * (strengths[:, 0] - strengths[:, 1]))
        errors.append(float(((expected - gain[rows]) ** 2).mean()))
    return np.array(errors)


def _square(upper: NDArray[np.float32], lower: NDArray[np.float32]) -> Array:
    """(n, 2, 2) with these off the diagonal."""
    square = np.zeros((len(upper), 2, 2))
    square[:, 0, 1], square[:, 1, 0] = upper, lower
    return square
