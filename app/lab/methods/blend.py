"""Fits the blend: ridge heads in log-odds on what prior and difficulty leave unexplained, and how
far to follow them beside the neighbourhood, on prompts that neither has seen.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from app.lab.fit import FittedTable, Vectors, quantise_scores
from app.lab.ground import Advance, Ground, log_odds_terms
from app.lab.methods.base import FittedMethod
from app.lab.methods.smoothed import fit_weights
from app.routing.estimators.base import Array
from app.routing.estimators.knn import LocalEvidence
from app.routing.estimators.linear import LARGEST_SHIFT
from app.routing.estimators.smoothed import SmoothingWeights

PENALTY = 30.0
_MOST_WEIGHT = 3.0
"""A row in which many models were scored says more of its difficulty, up to this."""

_LEAST_INFORMATION = 0.03


def fit_blend(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    scores, inputs = ground.table.scores, _with_bias(ground.vectors)
    common, own = np.zeros(len(scores)), np.zeros(scores.shape)
    for fold, fitted in ground.unseen.fitted.items():
        train, test = np.flatnonzero(ground.folds != fold), ground.folds == fold
        heads = fit_heads(ground, train, fitted)
        shifts = np.clip(inputs[test] @ heads, -LARGEST_SHIFT, LARGEST_SHIFT)
        common[test], own[test] = shifts[:, 0], shifts[:, 1:]
        if advance is not None:
            advance(int(test.sum()))
    terms = (*log_odds_terms(ground.unseen), np.broadcast_to(common[:, None], scores.shape), own)
    weights = fit_weights(terms, scores, ground.table.relative)
    prior, near, near_own, far, far_own = (round(float(weight), 4) for weight in weights)
    heads = fit_heads(ground, np.arange(len(scores)), ground.fitted)
    return FittedMethod(
        "blend",
        arrays={"heads": heads.astype(np.float16)},
        settings={
            "smoothing": asdict(SmoothingWeights(prior, near, near_own)),
            "linear": {"common": far, "own": far_own},
        },
    )


def fit_heads(ground: Ground, rows: NDArray[np.intp], fitted: FittedTable) -> Array:
    """Heads (dimensions + 1, 1 + models), in log-odds and bias last: the shift common to all
    models, then each one's own. `fitted` is over the same rows.
    """
    table, inputs = ground.table, _with_bias(ground.vectors[rows])
    scores, relative = table.scores[rows], table.relative[rows]
    evidence = LocalEvidence(
        quantise_scores(scores),
        fitted.prior(),
        fitted.difficulty.astype(np.float64),
        ground.knn,
        relative,
    )
    surprise = evidence.surprise.astype(np.float64)
    information = evidence.information.astype(np.float64)
    # A difficulty is shrunk by how little its row says; undo that, and let the row's weight say it
    # instead. Win rates say nothing of difficulty.
    total = information.sum(axis=1)
    shrunk = (total + ground.fit.difficulty_precision) / np.maximum(total, 0.1)
    difficulty = np.clip(fitted.difficulty * shrunk, -LARGEST_SHIFT, LARGEST_SHIFT)
    weights = np.where(relative, 0.0, np.minimum(total, _MOST_WEIGHT))
    heads = np.zeros((inputs.shape[1], 1 + scores.shape[1]))
    heads[:, :1] = _ridge(inputs, difficulty[:, None], weights)
    known = ~np.isnan(scores)
    for columns in _columns_by_rows(known):
        chosen = np.flatnonzero(known[:, columns[0]])
        places = np.ix_(chosen, columns)
        own = _ridge(inputs[chosen], surprise[places], np.ones(len(chosen)))
        usual = information[places].mean(axis=0)
        heads[:, 1 + columns] = own / np.maximum(usual, _LEAST_INFORMATION)
    return heads


def _with_bias(vectors: Vectors) -> Array:
    return np.hstack([vectors, np.ones((len(vectors), 1))]).astype(np.float64)


def _ridge(inputs: Array, targets: Array, weights: Array) -> Array:
    """Weighted ridge regression; the last input is the bias and stays free."""
    weighted = inputs * weights[:, None]
    penalties = np.full(inputs.shape[1], PENALTY)
    penalties[-1] = 1e-3
    gram = weighted.T @ inputs + np.diag(penalties)
    return np.asarray(np.linalg.solve(gram, weighted.T @ targets))


def _columns_by_rows(known: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Models scored on exactly the same rows, together: they share one matrix to invert."""
    groups: dict[bytes, list[int]] = {}
    for column in range(known.shape[1]):
        if known[:, column].any():
            groups.setdefault(np.packbits(known[:, column]).tobytes(), []).append(column)
    return [np.array(columns) for columns in groups.values()]
