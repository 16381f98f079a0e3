"""What all kinds of estimator are fitted on: the common ground of a router directory, and for every
row what a router that has not seen it would find near it.

Out-of-fold is by question, unless told otherwise. A kind that fits anything on top of the
neighbourhood or the clusters does so on these, so that what it weighs is what a request will get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from app.lab.fit import (
    FitSettings,
    FittedLengths,
    FittedTable,
    Vectors,
    fit_lengths,
    fit_table,
    quantise_scores,
)
from app.lab.outcomes import OutcomeTable, Unit, unit
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterVotes, log_odds_of, sigmoid
from app.routing.estimators.knn import KnnSettings, LocalEvidence, Neighbourhood, kernel
from app.routing.estimators.novelty import NEAREST, NoveltyScale

FOLDS = 5
FAMILIAR_QUANTILE = 0.05
STRANGE_QUANTILE = 0.002

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Out of fold, for n rows, m models and k neighbours: `rows` (n, k) of the table, the nearest
    of other folds first, `similarities` (n, k), and the terms of the smoothed kNN in log-odds:
    `prior` and `own` (n, m), `common` (n,). `fitted` by fold is the table without it, over the
    other rows. Where a fold has fewer rows than k, rows are -1.
    """

    rows: NDArray[np.int32]
    similarities: NDArray[np.float32]
    prior: NDArray[np.float32]
    common: NDArray[np.float32]
    own: NDArray[np.float32]
    fitted: dict[int, FittedTable]

    @property
    def density(self) -> NDArray[np.float32]:
        """(n,) mean similarity of the nearest."""
        return np.asarray(self.similarities[:, :NEAREST].mean(axis=1))


@dataclass(frozen=True, slots=True)
class Ground:
    """Outcomes, vectors and what is fitted on them for every kind. `folds` (n,) go by question, or
    by prompt.

    `encoder` is the directory of the one that made the vectors, if it is known.
    """

    table: OutcomeTable
    vectors: Vectors
    folds: NDArray[np.intp]
    fitted: FittedTable
    lengths: FittedLengths
    novelty: NoveltyScale
    unseen: Unseen
    usual_support: NDArray[np.float32]
    """(m,) the mean support that neighbours out of fold give each model."""
    fit: FitSettings
    knn: KnnSettings
    seed: int
    encoder: Path | None = None


def fit_ground(
    table: OutcomeTable,
    vectors: Vectors,
    fit: FitSettings,
    knn: KnnSettings,
    seed: int,
    advance: Advance | None = None,
    folds_by: Unit = "question",
) -> Ground:
    """`advance` counts rows cross-fitted."""
    folds = fold_of(table.prompts, FOLDS, seed, folds_by)
    unseen = _out_of_fold(vectors, table, folds, fit, knn, seed, advance)
    fitted = fit_table(vectors, table.scores, fit, seed, table.relative)
    return Ground(
        table=table,
        vectors=vectors,
        folds=folds,
        fitted=fitted,
        lengths=fit_lengths(table.output_tokens, fitted.row_clusters, len(fitted.table.ease)),
        novelty=_novelty_scale(unseen),
        unseen=unseen,
        usual_support=_usual_support(unseen, table.scores, knn),
        fit=fit,
        knn=knn,
        seed=seed,
    )


def fold_of(
    prompts: Sequence[str], folds: int, seed: int, by: Unit = "question"
) -> NDArray[np.intp]:
    """A fold for each row; rows with one question share it, or with one prompt."""
    units = [unit(prompt, by) for prompt in prompts]
    distinct = sorted(set(units))
    assigned = np.random.default_rng(seed).permutation(len(distinct)) % folds
    places = dict(zip(distinct, assigned.tolist(), strict=True))
    return np.array([places[text] for text in units], dtype=np.intp)


def _out_of_fold(
    vectors: Vectors,
    table: OutcomeTable,
    folds: NDArray[np.intp],
    fit: FitSettings,
    knn: KnnSettings,
    seed: int,
    advance: Advance | None,
) -> Unseen:
    n, scores = len(table), table.scores
    unseen = Unseen(
        rows=np.full((n, knn.count), -1, dtype=np.int32),
        similarities=np.zeros((n, knn.count), dtype=np.float32),
        prior=np.zeros(scores.shape, dtype=np.float32),
        common=np.zeros(n, dtype=np.float32),
        own=np.zeros(scores.shape, dtype=np.float32),
        fitted={},
    )
    for fold in range(int(folds.max()) + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(train) and len(test):
            unseen.fitted[fold] = _one_fold(unseen, vectors, table, train, test, fit, knn, seed)
        if advance is not None:
            advance(len(test))
    return unseen


def _one_fold(
    unseen: Unseen,
    vectors: Vectors,
    table: OutcomeTable,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    fit: FitSettings,
    knn: KnnSettings,
    seed: int,
) -> FittedTable:
    scores, relative = table.scores[train], table.relative[train]
    fitted = fit_table(vectors[train], scores, fit, seed, relative)
    evidence = LocalEvidence(
        quantise_scores(scores),
        fitted.prior(),
        fitted.difficulty.astype(np.float64),
        knn,
        relative,
    )
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors[train])
    cells = sigmoid(fitted.table.cells.astype(np.float64))
    votes = ClusterVotes(fitted.row_clusters, len(cells), knn.vote_temperature)
    count = min(knn.count, len(train))
    similarities, near = index.search(vectors[test], count)
    unseen.rows[test, :count] = train[near]
    unseen.similarities[test, :count] = similarities
    for at, row in enumerate(test):
        local = evidence.shift(near[at], kernel(similarities[at], knn))
        unseen.prior[row] = log_odds_of(votes.shares(near[at], similarities[at]) @ cells)
        unseen.common[row], unseen.own[row] = local.common, local.own
    return fitted


def _usual_support(
    unseen: Unseen, scores: NDArray[np.float32], knn: KnnSettings
) -> NDArray[np.float32]:
    neighbourhood = Neighbourhood(quantise_scores(scores), knn)
    total = np.zeros(scores.shape[1])
    for rows, similarities in zip(unseen.rows, unseen.similarities, strict=True):
        found = rows >= 0
        weights = kernel(similarities[found], knn)
        total += neighbourhood.support(rows[found].astype(np.int64), weights)
    return np.asarray(total / len(scores), dtype=np.float32)


def _novelty_scale(unseen: Unseen) -> NoveltyScale:
    """Two low quantiles of how densely the outcomes surround each other, questions apart."""
    familiar, strange = np.quantile(unseen.density, [FAMILIAR_QUANTILE, STRANGE_QUANTILE])
    return NoveltyScale(round(float(familiar), 4), round(float(strange), 4))


def log_odds_terms(unseen: Unseen) -> tuple[Array, Array, Array]:
    """Prior, common shift and own shift, each (n, m)."""
    shape = unseen.prior.shape
    return (
        unseen.prior.astype(np.float64),
        np.broadcast_to(unseen.common.astype(np.float64)[:, None], shape),
        unseen.own.astype(np.float64),
    )
