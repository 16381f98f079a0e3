"""How long an answer will be: the expected output tokens, which are most of a request's cost.

The arithmetic mean over labelled neighbours, because money adds up arithmetically, shrunk to model
x cluster. That prior is a product of a model's wordiness and a cluster's length, so that models
measured on different prompts compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import Standing

_LOG_STEP = 1.04
KAPPA = 1.0


@dataclass(frozen=True, slots=True)
class LengthTable:
    """Tokens as codes by row and model (0 is unknown), and the fitted product: nan where nothing is
    known.
    """

    codes: NDArray[np.uint8]
    wordiness: NDArray[np.float32]
    cluster_length: NDArray[np.float32]
    overall: float
    """The same product over all prompts, for a wordiness of 1."""

    def for_candidates(self, standings: Sequence[Standing]) -> ExpectedLength:
        typical = (
            float(np.nanmedian(self.wordiness)) if np.isfinite(self.wordiness).any() else np.nan
        )
        wordiness = np.full(len(standings), typical)
        tokens = np.zeros((len(self.codes), len(standings)), dtype=np.float32)
        for at, standing in enumerate(standings):
            if standing.joined is not None and standing.joined.wordiness is not None:
                wordiness[at] = standing.joined.wordiness
            if standing.column is None:
                continue
            tokens[:, at] = decode_tokens(self.codes[:, standing.column])
            if np.isfinite(self.wordiness[standing.column]):
                wordiness[at] = self.wordiness[standing.column]
        return ExpectedLength(
            tokens, wordiness, self.cluster_length.astype(np.float64), self.overall
        )


@dataclass(frozen=True, slots=True)
class ExpectedLength:
    """Lengths of the candidates' answers; `tokens` is 0 where unknown, (rows, candidates)."""

    tokens: NDArray[np.float32]
    wordiness: Array
    cluster_length: Array
    overall: float

    def expect(
        self, shares: Array, rows: NDArray[np.int64], weights: NDArray[np.float32], novelty: float
    ) -> Array:
        length = (1.0 - novelty) * float(shares @ self.cluster_length) + novelty * self.overall
        prior = self.wordiness * length
        near = self.tokens[rows]
        trusted = weights * np.float32(1.0 - novelty)
        total = (trusted @ near).astype(np.float64)
        known = (trusted @ (near > 0)).astype(np.float64)
        return np.asarray((total + KAPPA * prior) / (known + KAPPA))

    def typical(self) -> Array:
        """Without a vector: over all prompts."""
        return np.asarray(self.wordiness * self.overall)


def encode_tokens(tokens: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One byte a count, within 2 %, up to about 20,000 tokens; nan becomes 0."""
    codes = np.round(np.log(np.fmax(tokens, 1.0)) / np.log(_LOG_STEP)) + 1.0
    return np.where(np.isnan(tokens), 0, np.clip(codes, 1, 255)).astype(np.uint8)


def decode_tokens(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Token counts; 0 where unknown."""
    lengths = _LOG_STEP ** (np.arange(256) - 1.0)
    lengths[0] = 0.0
    return lengths.astype(np.float32)[codes]
