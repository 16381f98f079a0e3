"""Fits how far the blend follows each of its parts, on prompts the parts have not seen.

The parts are computed by the very code that serves, on folds made by question, so that what is
weighed here is what a request will get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from app.lab.fit import FitSettings, Vectors, fit_heads, fit_table, quantise_scores
from app.lab.outcomes import question
from app.routing.estimators.base import Array
from app.routing.estimators.blend import BlendWeights
from app.routing.estimators.clusters import ClusterVotes, log_odds_of, sigmoid
from app.routing.estimators.knn import KnnSettings, LocalEvidence
from app.routing.estimators.linear import LinearHeads
from app.routing.estimators.novelty import NEAREST, NoveltyScale

FAMILIAR_QUANTILE = 0.05
STRANGE_QUANTILE = 0.002
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Parts:
    """Out-of-fold terms for every row and model, (rows, models) or, where common to all models,
    (rows,).
    """

    prior: Array
    knn_common: Array
    knn_own: Array
    linear_common: Array
    linear_own: Array
    density: Array

    def log_odds(self, weights: BlendWeights) -> Array:
        return np.asarray(
            weights.prior * self.prior
            + (weights.knn_common * self.knn_common + weights.linear_common * self.linear_common)[
                :, None
            ]
            + weights.knn_own * self.knn_own
            + weights.linear_own * self.linear_own
        )


def fold_of(prompts: Sequence[str], folds: int, seed: int) -> NDArray[np.intp]:
    """A fold for each row; rows with one question share it."""
    questions = [question(prompt) for prompt in prompts]
    distinct = sorted(set(questions))
    assigned = np.random.default_rng(seed).permutation(len(distinct)) % folds
    places = dict(zip(distinct, assigned.tolist(), strict=True))
    return np.array([places[text] for text in questions], dtype=np.intp)


def out_of_fold(
    vectors: Vectors,
    scores: NDArray[np.float32],
    folds: NDArray[np.intp],
    settings: FitSettings,
    knn: KnnSettings,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> Parts:
    """Every row's terms, from a fit on the other folds."""
    parts = _empty(scores.shape)
    for fold in range(int(folds.max()) + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        _one_fold(parts, vectors, scores, train, test, settings, knn, seed)
        if advance is not None:
            advance(len(test))
    return parts


def _one_fold(
    parts: Parts,
    vectors: Vectors,
    scores: NDArray[np.float32],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    settings: FitSettings,
    knn: KnnSettings,
    seed: int,
) -> None:
    fitted = fit_table(vectors[train], scores[train], settings, seed)
    heads = LinearHeads(
        fit_heads(vectors[train], scores[train], fitted, settings).astype(np.float32)
    )
    evidence = LocalEvidence(
        quantise_scores(scores[train]), fitted.prior(), fitted.difficulty.astype(np.float64), knn
    )
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors[train])
    cells = sigmoid(fitted.table.cells.astype(np.float64))
    votes = ClusterVotes(fitted.row_clusters, len(cells), knn.vote_temperature)
    similarities, near = index.search(vectors[test], min(knn.count, len(train)))
    for at, row in enumerate(test):
        vector = vectors[row]
        local = evidence.shift(near[at], evidence.weights(similarities[at]))
        linear = heads.shift(vector)
        parts.prior[row] = log_odds_of(votes.shares(near[at], similarities[at]) @ cells)
        parts.knn_common[row], parts.knn_own[row] = local.common, local.own
        parts.linear_common[row], parts.linear_own[row] = linear.common, linear.own
        parts.density[row] = similarities[at, :NEAREST].mean()


def fit_weights(parts: Parts, scores: NDArray[np.float32]) -> BlendWeights:
    """Weights of least squared error in quality and, within each row, in the differences between
    models.

    Differences are what routing decides by, so they count as much as the level. Every row counts
    once, however many models answered it. Projected Gauss-Newton; weights are not negative.
    """
    known = ~np.isnan(scores)
    share = known / known.sum(axis=1, keepdims=True)
    answered = known.sum(axis=1, keepdims=True) >= 2
    terms = [
        parts.prior,
        np.broadcast_to(parts.knn_common[:, None], scores.shape),
        parts.knn_own,
        np.broadcast_to(parts.linear_common[:, None], scores.shape),
        parts.linear_own,
    ]
    weights = np.array(list(asdict(BlendWeights()).values()))
    for _ in range(_STEPS):
        log_odds = parts.log_odds(BlendWeights(*weights))
        quality = sigmoid(log_odds)
        error = np.where(known, np.nan_to_num(scores) - quality, 0.0)
        slope = quality * (1.0 - quality) * known
        slopes = [slope * term for term in terms]
        gradient, curvature = np.zeros(len(terms)), np.zeros((len(terms), len(terms)))
        for residual, jacobian in (
            (error, slopes),
            (
                _centred(error, share, known, answered),
                [_centred(s, share, known, answered) for s in slopes],
            ),
        ):
            for i, one in enumerate(jacobian):
                gradient[i] += float((share * one * residual).sum())
                for j, other in enumerate(jacobian):
                    curvature[i, j] += float((share * one * other).sum())
        curvature[np.diag_indices_from(curvature)] += 1e-9 + 1e-3 * np.trace(curvature)
        step = np.linalg.solve(curvature, gradient)
        updated = np.clip(weights + 0.5 * step, 0.0, 2.0)
        if np.abs(updated - weights).max() < 1e-4:
            break
        weights = updated
    return BlendWeights(*(round(float(weight), 4) for weight in weights))


def novelty_scale(parts: Parts) -> NoveltyScale:
    """Two low quantiles of how densely the outcomes surround each other, questions apart."""
    familiar, strange = np.quantile(parts.density, [FAMILIAR_QUANTILE, STRANGE_QUANTILE])
    return NoveltyScale(round(float(familiar), 4), round(float(strange), 4))


def _centred(
    values: Array, share: Array, known: NDArray[np.bool_], answered: NDArray[np.bool_]
) -> Array:
    mean = (share * values).sum(axis=1, keepdims=True)
    return np.where(known & answered, values - mean, 0.0)


def _empty(shape: tuple[int, ...]) -> Parts:
    return Parts(
        *(np.zeros(shape if own else shape[:1]) for own in (True, False, True, False, True, False))
    )
