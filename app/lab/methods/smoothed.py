"""Fits how far the smoothed kNN follows prior and neighbourhood, on prompts they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from app.lab.ground import Advance, Ground, log_odds_terms
from app.lab.methods.base import FittedMethod
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.smoothed import SmoothingWeights

_STEPS = 200


def fit_smoothed(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    weights = fit_weights(log_odds_terms(ground.unseen), ground.table.scores, ground.table.relative)
    smoothing = SmoothingWeights(*(round(float(weight), 4) for weight in weights))
    return FittedMethod("knn", settings={"smoothing": asdict(smoothing)})


def fit_clusters(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """Nothing but the common ground."""
    return FittedMethod("clusters")


def fit_weights(
    terms: Sequence[Array],
    scores: NDArray[np.float32],
    relative: NDArray[np.bool_] | None = None,
) -> Array:
    """Weights, from 0 to 2, of terms (rows, models) in log-odds: of least squared error in quality
    and, within each row, in the differences between models.

    Differences are what routing decides by, so they count as much as the level. Every row counts
    once, however many models answered it; a `relative` one, of win rates, in the differences only.
    Projected Gauss-Newton.
    """
    known = ~np.isnan(scores)
    share = known / known.sum(axis=1, keepdims=True)
    level = share if relative is None else share * ~relative[:, None]
    answered = known.sum(axis=1, keepdims=True) >= 2
    weights = np.ones(len(terms))
    for _ in range(_STEPS):
        log_odds: Array = sum((w * t for w, t in zip(weights, terms, strict=True)), np.zeros(1))
        quality = sigmoid(log_odds)
        error = np.where(known, np.nan_to_num(scores) - quality, 0.0)
        slope = quality * (1.0 - quality) * known
        slopes = [slope * term for term in terms]
        gradient, curvature = np.zeros(len(terms)), np.zeros((len(terms), len(terms)))
        for counted, residual, jacobian in (
            (level, error, slopes),
            (
                share,
                _centred(error, share, known, answered),
                [_centred(s, share, known, answered) for s in slopes],
            ),
        ):
            for i, one in enumerate(jacobian):
                gradient[i] += float((counted * one * residual).sum())
                for j, other in enumerate(jacobian):
                    curvature[i, j] += float((counted * one * other).sum())
        curvature[np.diag_indices_from(curvature)] += 1e-9 + 1e-3 * np.trace(curvature)
        step = np.linalg.solve(curvature, gradient)
        updated = np.clip(weights + 0.5 * step, 0.0, 2.0)
        if np.abs(updated - weights).max() < 1e-4:
            break
        weights = updated
    return weights


def _centred(
    values: Array, share: Array, known: NDArray[np.bool_], answered: NDArray[np.bool_]
) -> Array:
    mean = (share * values).sum(axis=1, keepdims=True)
    return np.where(known & answered, values - mean, 0.0)
