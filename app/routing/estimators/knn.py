"""Quality by neighbourhood: how prompts like this one differed from their clusters.

A large-k kNN in two parts. First the prompt: were the neighbours harder or easier than their
clusters for whichever models answered them? That holds for every candidate. Then each candidate:
did it do better or worse on its labelled neighbours than that explains? The split is what makes a
difference between two candidates rest on prompts both were measured against, not on which prompts
each happened to be scored on. Both are one Newton step of a logistic model, so they are log-odds,
shrunk to zero where little is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

MISSING = 255
SCORE_STEPS = 254


@dataclass(frozen=True, slots=True)
class Shift:
    """Log-odds to add to the prior: one for all candidates, and each one's own."""

    common: float
    own: Array


@dataclass(frozen=True, slots=True)
class KnnSettings:
    """`temperature` of weights exp((similarity - 1) / temperature); kappas in units of those
    weights.
    """

    count: int = 160
    temperature: float = 0.2
    kappa_common: float = 0.5
    kappa_own: float = 0.3
    vote_temperature: float = 0.06
    """Sharper than the weights: the very nearest say what kind of prompt it is."""


class LocalEvidence:
    """Residuals of the candidates on every known prompt, ready to be averaged over any
    neighbourhood.

    `surprise` is score minus expectation and `information` p(1-p), both 0 where a candidate has no
    score: (rows, candidates).
    """

    def __init__(
        self,
        scores: NDArray[np.uint8],
        prior: Array,
        difficulty: Array,
        settings: KnnSettings,
        relative: NDArray[np.bool_] | None = None,
    ) -> None:
        """`scores` quantised; `prior` log-odds by row; `difficulty` each row's own shift, positive
        for easy ones. `relative` rows are of win rates: of them only differences count.
        """
        known = scores != MISSING
        observed = scores.astype(np.float64) / SCORE_STEPS
        if relative is None:
            relative = np.zeros(len(scores), dtype=np.bool_)
        prior = np.where(relative[:, None], _centred(prior, known), prior + difficulty[:, None])
        expected = sigmoid(prior)
        surprise = np.where(known, observed - expected, 0.0)
        surprise[relative] = _centred(surprise[relative], known[relative])
        self.surprise = surprise.astype(np.float32)
        self.information = np.where(known, expected * (1.0 - expected), 0.0).astype(np.float32)
        self._difficulty = np.where(relative, 0.0, difficulty).astype(np.float32)
        self._levelled = (~relative).astype(np.float32)
        self._settings = settings

    def shift(self, rows: NDArray[np.int64], weights: NDArray[np.float32]) -> Shift:
        common = float(weights @ self._difficulty[rows]) / (
            float(weights @ self._levelled[rows]) + self._settings.kappa_common
        )
        surprise = (weights @ self.surprise[rows]).astype(np.float64)
        information = (weights @ self.information[rows]).astype(np.float64)
        return Shift(common, surprise / (information + self._settings.kappa_own))


class Neighbourhood:
    """How much of the evidence around a query is near, and of which candidates."""

    def __init__(self, scores: NDArray[np.uint8], settings: KnnSettings) -> None:
        """`scores` (rows, candidates), quantised."""
        self._known = (scores != MISSING).astype(np.float32)
        self._settings = settings

    def weights(self, similarities: NDArray[np.float32]) -> NDArray[np.float32]:
        """The kernel, (k,): exp((similarity - 1) / temperature)."""
        return kernel(similarities, self._settings)

    def support(self, rows: NDArray[np.int64], weights: NDArray[np.float32]) -> Array:
        """Kish's effective number of labelled neighbours, (sum w)^2 / sum w^2, by candidate."""
        known = self._known[rows]
        total = (weights @ known).astype(np.float64)
        squares = ((weights * weights) @ known).astype(np.float64)
        # Where a candidate has no labelled neighbour, both sums are 0 and so is the answer.
        return np.asarray(total * total / np.maximum(squares, 1e-12), dtype=np.float64)


def _centred(values: Array, known: NDArray[np.bool_]) -> Array:
    """Known values less their mean in the row, 0 where unknown."""
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    means = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / counts
    return np.where(known, values - means, 0.0)


def kernel(similarities: NDArray[np.float32], settings: KnnSettings) -> NDArray[np.float32]:
    """Weights of neighbours by their similarities, of any shape."""
    return np.asarray(np.exp((similarities - 1.0) / settings.temperature))
