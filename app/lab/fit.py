"""Fits what every kind of estimator reads: clusters, the item-response table, each prompt's
difficulty, lengths.

Everything is a closed form or a fixed number of Newton steps on one thread, so that the same rows
give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import faiss
import numpy as np
from numpy.typing import NDArray

from app.lab.item_response import Precisions, fit_item_response
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterTable, log_odds_of, mean_quality, sigmoid
from app.routing.estimators.knn import MISSING, SCORE_STEPS

Vectors = NDArray[np.float32]
_LENGTH_ROUNDS = 100
_DIFFICULTY_STEPS = 4
_LARGEST_DIFFICULTY = 7.0


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What the fit does not learn from the data. Chosen by cross-validation
    (docs/decisions/0004-first-router.md).
    """

    clusters: int = 64
    precisions: Precisions = field(default_factory=Precisions)
    difficulty_precision: float = 1.0


@dataclass(frozen=True, slots=True)
class FittedTable:
    """The cluster table and, by row, cluster and difficulty."""

    table: ClusterTable
    row_clusters: NDArray[np.uint16]
    difficulty: NDArray[np.float32]

    def prior(self) -> Array:
        """Log-odds of every model on every row's cluster, (rows, models)."""
        return self.table.cells[self.row_clusters].astype(np.float64)


def quantise_scores(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One byte a score; 255 where there is none."""
    return np.where(
        np.isnan(scores), MISSING, np.round(np.nan_to_num(scores) * SCORE_STEPS)
    ).astype(np.uint8)


def fit_table(
    vectors: Vectors,
    scores: NDArray[np.float32],
    settings: FitSettings,
    seed: int,
    relative: NDArray[np.bool_] | None = None,
) -> FittedTable:
    """Clusters the prompts and fits the item-response model over them. Rows of win rates, which
    `relative` marks, are as hard as any: difficulty 0.
    """
    centroids = cluster(vectors, min(settings.clusters, max(1, len(vectors) // 8)), seed)
    clusters = len(centroids)
    row_clusters = np.argmax(vectors @ centroids.T, axis=1)
    fit = fit_item_response(scores, row_clusters, clusters, settings.precisions, relative)
    cells = log_odds_of(mean_quality(fit.cells, fit.spread[:, None]))
    counts = np.zeros((clusters, scores.shape[1]))
    np.add.at(counts, row_clusters, ~np.isnan(scores))
    table = ClusterTable(
        cells=cells.astype(np.float32),
        counts=counts.astype(np.float32),
        ability=fit.ability.astype(np.float32),
        ease=fit.ease.astype(np.float32),
        spread=fit.spread.astype(np.float32),
        weights=(np.bincount(row_clusters, minlength=clusters) / len(vectors)).astype(np.float32),
    )
    difficulty = _difficulty(cells[row_clusters], scores, settings.difficulty_precision)
    if relative is not None:
        difficulty[relative] = 0.0
    return FittedTable(table, row_clusters.astype(np.uint16), difficulty.astype(np.float32))


def cluster(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Spherical k-means; every row is used."""
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=20,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    kmeans.train(np.ascontiguousarray(vectors))
    return np.array(kmeans.centroids, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class FittedLengths:
    """Wordiness by model, length by cluster, and the mean length over all; nan where nothing is
    known.
    """

    wordiness: NDArray[np.float32]
    cluster_length: NDArray[np.float32]
    overall: float


def fit_lengths(
    output_tokens: NDArray[np.float32], row_clusters: NDArray[np.uint16], clusters: int
) -> FittedLengths:
    """Tokens as wordiness of the model x length of the cluster: the Poisson fit, by alternating
    proportions.
    """
    known = ~np.isnan(output_tokens)
    shape = (clusters, output_tokens.shape[1])
    counts, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(counts, row_clusters, known)
    np.add.at(sums, row_clusters, np.where(known, output_tokens, 0.0).astype(np.float64))
    if not known.any():
        unknown = np.full(clusters, np.nan, dtype=np.float32)
        return FittedLengths(np.full(shape[1], np.nan, dtype=np.float32), unknown, float("nan"))
    overall = sums.sum() / counts.sum()
    wordiness, length = np.ones(shape[1]), np.full(clusters, overall)
    # One pseudo-observation of the overall mean keeps clusters and models without lengths finite.
    for _ in range(_LENGTH_ROUNDS):
        wordiness = (sums.sum(axis=0) + overall) / (
            (counts * length[:, None]).sum(axis=0) + overall
        )
        length = (sums.sum(axis=1) + overall) / ((counts * wordiness).sum(axis=1) + 1.0)
    weights = np.bincount(row_clusters, minlength=clusters) / len(row_clusters)
    wordiness[counts.sum(axis=0) == 0] = np.nan
    return FittedLengths(
        wordiness.astype(np.float32), length.astype(np.float32), float(weights @ length)
    )


def _difficulty(prior: Array, scores: NDArray[np.float32], precision: float) -> Array:
    """Each row's shift from the prior that is common to all models scored on it.

    Held more tightly to zero than the item-response fit would: here it must not absorb what
    belongs to the models, and rows with two scores say little about either.
    """
    known = ~np.isnan(scores)
    shift = np.zeros(len(prior))
    for _ in range(_DIFFICULTY_STEPS):
        expected = sigmoid(prior + shift[:, None])
        surprise = np.where(known, scores - expected, 0.0).sum(axis=1)
        information = np.where(known, expected * (1.0 - expected), 0.0).sum(axis=1)
        shift += (surprise - precision * shift) / (information + precision)
    return np.clip(shift, -_LARGEST_DIFFICULTY, _LARGEST_DIFFICULTY)
