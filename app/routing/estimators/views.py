"""What the stack looks at: for each panel of models, how a prompt's scores will depart from the
models' means, as seen from its words, its vector, its neighbours and its kind of task.

A departure is one number common to the panel's models and one along each of the panel's directions
(`app.lab.methods.panels`); each view predicts all of them on its own, and the stack weighs the
views against each other. Every view is a small array product, for one prompt or for many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.words import (
    SCALARS,
    WordWeights,
    count_buckets,
    scalars,
)

Floats = NDArray[np.float32]

SCALAR_WEIGHT = 0.1
"""Standardised scalars stand beside the unit vector at this size, so that a ridge shrinks both."""

WIDE, WIDE_COUNT, WIDE_KAPPA = 0.1, 160, 0.02
SHARP, SHARP_COUNT, SHARP_KAPPA = 0.03, 60, 0.002
"""Two neighbourhoods: temperature of the weights, neighbours, and how much of those weights the
vector's own prediction is worth where neighbours are few.
"""

TASK_TEMPERATURE = 2.0
"""Log-odds of tasks are halved: discriminants of 400 inputs are too sure of themselves."""

LEAST_EVIDENCE = 1e-4


@dataclass(frozen=True, slots=True)
class WordOutputs:
    """Places of what is read from the words: departures, membership of each panel, log of the
    relative length, how familiar the text is; and how many they are in all.
    """

    departures: slice
    members: slice
    length: int
    familiar: int
    total: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are: `starts` (panels + 1,) of each panel's departures among all s of them, and
    of each panel's models among all of them.
    """

    starts: tuple[int, ...]
    models: tuple[tuple[int, ...], ...]
    """Columns of the outcomes that each panel knows."""

    @property
    def departures(self) -> int:
        return self.starts[-1]

    @property
    def panels(self) -> int:
        return len(self.models)

    def of(self, panel: int) -> slice:
        return slice(self.starts[panel], self.starts[panel + 1])

    @property
    def words(self) -> WordOutputs:
        """What is read from the words."""
        s, p = self.departures, self.panels
        return WordOutputs(slice(0, s), slice(s, s + p), s + p, s + p + 1, s + p + 2)


@dataclass(frozen=True, slots=True)
class WordView:
    """Ridge heads on hashed words and scalars, h outputs as `Layout.words` has them.

    `heads` (2**BITS, h) are whole numbers times `scale` (h,); `scalar_heads` (26, h); `bias` (h,).
    """

    weights: WordWeights
    heads: NDArray[np.int8]
    scale: Floats
    scalar_heads: Floats
    bias: Floats
    scalar_mean: Floats
    scalar_scale: Floats

    def read(self, text: str, hashes: NDArray[np.uint32]) -> tuple[Floats, Floats]:
        """Outputs (h,) and standardised scalars (26,), for a text and its hashes."""
        buckets, counts = count_buckets(hashes)
        row = self.weights.row(buckets, counts)
        standard = (scalars(text) - self.scalar_mean) / self.scalar_scale
        outputs = (row @ self.heads[buckets].astype(np.float32)) * self.scale
        outputs = outputs + standard @ self.scalar_heads + self.bias
        return outputs.astype(np.float32), standard


@dataclass(frozen=True, slots=True)
class VectorView:
    """Heads on the vector with the scalars beside it: inputs (..., d + 26).

    `heads` (d + 26, s) and `bias` (s,) predict departures; `tasks` (d + 26, t) and `task_bias` (t,)
    are a linear discriminant; `task_departures` (t, s) each task's mean.
    """

    heads: Floats
    bias: Floats
    tasks: Floats
    task_bias: Floats
    task_departures: Floats

    @staticmethod
    def inputs(vectors: Floats, standard: Floats) -> Floats:
        return np.concatenate((vectors, SCALAR_WEIGHT * standard), axis=-1)

    def departures(self, inputs: Floats) -> Floats:
        return np.asarray(inputs @ self.heads + self.bias)

    def task_shares(self, inputs: Floats) -> Floats:
        """Probability of each task, (..., t)."""
        odds = (inputs @ self.tasks + self.task_bias) / np.float32(TASK_TEMPERATURE)
        likelihood = np.exp(odds - odds.max(axis=-1, keepdims=True))
        return np.asarray(likelihood / likelihood.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """What neighbours' scores were like. `departures` (rows, s), 0 where the row is not of the
    panel; `members` (rows, panels) 1 where it is; `spread` (panels, s) says whose departures are
    whose.
    """

    departures: Floats
    members: Floats
    spread: Floats

    @classmethod
    def of(cls, departures: NDArray[Any], members: NDArray[Any], layout: Layout) -> NeighbourView:
        """Of any number types; held as float32, since products of others convert every time."""
        spread = np.zeros((layout.panels, layout.departures), dtype=np.float32)
        for panel in range(layout.panels):
            spread[panel, layout.of(panel)] = 1.0
        return cls(departures.astype(np.float32), members.astype(np.float32), spread)

    def look(
        self, rows: NDArray[Any], similarities: Floats, by_vector: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Departures (..., s) and log of the evidence (..., panels) from neighbours (..., k), of
        the wide neighbourhood and of the sharp one.
        """
        near = rows[..., :WIDE_COUNT]
        departures, members = self.departures[near], self.members[near]
        found: list[Floats] = []
        for temperature, count, kappa in (
            (WIDE, WIDE_COUNT, WIDE_KAPPA),
            (SHARP, SHARP_COUNT, SHARP_KAPPA),
        ):
            weights = np.exp((similarities[..., None, :count] - 1.0) / np.float32(temperature))
            seen = (weights @ departures[..., :count, :])[..., 0, :]
            evidence = (weights @ members[..., :count, :])[..., 0, :]
            worth = np.float32(kappa)
            found.append((seen + worth * by_vector) / (evidence @ self.spread + worth))
            found.append(np.log(evidence + np.float32(LEAST_EVIDENCE)))
        wide, wide_evidence, sharp, sharp_evidence = found
        return wide, wide_evidence, sharp, sharp_evidence


def nearest_votes(rows: NDArray[Any], similarities: Floats) -> tuple[Floats, NDArray[Any]]:
    """Votes, summing to 1, of the nearest rows (k,), and which these are."""
    votes = np.exp((similarities[:SHARP_COUNT] - similarities[0]) / np.float32(2.0 * SHARP))
    return votes / votes.sum(), rows[:SHARP_COUNT]


def feature_names(layout: Layout) -> list[tuple[str, int]]:
    """View and index of every feature of the stack, in order: those of `join`."""
    s, p = layout.departures, layout.panels
    sizes = {"vector": s, "words": s, "wide": s, "wide evidence": p, "sharp": s}
    sizes |= {"sharp evidence": p, "task": s, "scalar": len(SCALARS)}
    return [(view, at) for view, size in sizes.items() for at in range(size)]


def join(
    by_vector: Floats,
    by_words: Floats,
    wide: Floats,
    wide_evidence: Floats,
    sharp: Floats,
    sharp_evidence: Floats,
    by_task: Floats,
    standard: Floats,
) -> Floats:
    """All features (..., f) for the full estimate."""
    return np.concatenate(
        (
            by_vector,
            by_words,
            wide,
            wide_evidence,
            sharp,
            sharp_evidence,
            by_task,
            standard,
        ),
        axis=-1,
    )


def load_words(arrays: Mapping[str, NDArray[Any]]) -> WordView:
    """From a router's arrays."""
    return WordView(
        weights=WordWeights(np.ascontiguousarray(arrays["idf"], dtype=np.float32)),
        heads=arrays["word_heads"],
        scale=arrays["word_scale"],
        scalar_heads=arrays["word_scalar_heads"],
        bias=arrays["word_bias"],
        scalar_mean=arrays["scalar_mean"],
        scalar_scale=arrays["scalar_scale"],
    )


def load_vector(arrays: Mapping[str, NDArray[Any]]) -> VectorView:
    """From a router's arrays."""
    return VectorView(
        *(
            np.ascontiguousarray(arrays[name], dtype=np.float32)
            for name in ("vector_heads", "vector_bias", "tasks", "task_bias", "task_departures")
        )
    )
