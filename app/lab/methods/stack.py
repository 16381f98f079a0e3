"""Fits the stack, and the text estimator that is one half of it.

Three levels, each on predictions of the level below for prompts that level has not seen, in folds
by question: the views; trees and a linear stack that combine them, panel by panel; and for each
model the rest, Platt's calibration, and how far words alone are from all views together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.boosting import BoostSettings
from app.lab.methods.calibration import fit_curve
from app.lab.methods.combining import Combined, combine, pack
from app.lab.methods.panels import FEWEST_ROWS, find_panels
from app.lab.methods.views import (
    WORD_SCALARS,
    VectorHeads,
    WordHeads,
    features_of,
    fit_vector_heads,
    fit_word_heads,
    read_texts,
    relative_lengths,
    vectors_with_scalars,
)
from app.routing.estimators.base import Array
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.views import Floats, Layout, NeighbourView, feature_names
from app.routing.estimators.words import BITS, SCALARS

STEPS = 4
"""Words and vector out of fold, and combining the features of each."""

SHARED_DEPARTURES = 3
"""Of other panels, an output sees this many departures: common, and the two largest directions."""

FAMILIAR_WORDS, STRANGE_WORDS = 0.15, 0.03
"""Quantiles of the familiarity of known prompts. Stricter than those of density, since to be found
strange by the words costs no more than a vector.
"""


@dataclass(frozen=True, slots=True)
class StackSettings:
    full: BoostSettings = field(default_factory=BoostSettings)
    words: BoostSettings = field(default_factory=BoostSettings)


def fit_stack(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    return _Fit(ground, advance).stack()


def fit_text(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """The words' half alone. Vectors are not looked at."""
    return _Fit(ground, advance).text()


class _Fit:
    """What the steps of one fit have in common."""

    def __init__(self, ground: Ground, advance: Advance | None) -> None:
        self.ground = ground
        self.advance = advance
        self.panels = find_panels(ground.table)
        if not self.panels:
            raise DataError(
                f"no {FEWEST_ROWS} prompts were answered by the same two models, so nothing can be "
                "compared side by side; choose --estimator knn, which needs no such prompts"
            )
        starts = np.cumsum([0, *(panel.factors.shape[1] for panel in self.panels)])
        self.layout = Layout(
            starts=tuple(int(start) for start in starts),
            models=tuple(tuple(int(c) for c in panel.columns) for panel in self.panels),
        )
        self.texts = read_texts(ground.table.prompts)
        self.lengths = relative_lengths(ground.table, ground.lengths)
        self.folds = [np.flatnonzero(ground.folds == f) for f in range(ground.folds.max() + 1)]
        self.settings = StackSettings()

    def text(self) -> FittedMethod:
        by_words, familiarity = self._words_out_of_fold()
        heads = self._word_heads(np.ones(len(self.ground.folds), dtype=np.bool_))
        arrays = self._word_arrays(heads)
        features = np.hstack([by_words, self.texts.standard])
        combined, seen = self._combine(features, self._word_columns(), self.settings.words)
        arrays |= pack("words", combined, self.layout)
        arrays |= self._finish(seen, None, None)
        return self._fitted("text", arrays, familiarity)

    def stack(self) -> FittedMethod:
        ground, everything = self.ground, np.ones(len(self.ground.folds), dtype=np.bool_)
        by_words, familiarity = self._words_out_of_fold()
        arrays = self._word_arrays(self._word_heads(everything))
        word_features = np.hstack([by_words, self.texts.standard])
        words, words_seen = self._combine(word_features, self._word_columns(), self.settings.words)
        arrays |= pack("words", words, self.layout)

        inputs = vectors_with_scalars(ground.vectors, self.texts)
        neighbours = NeighbourView.of(*self._rows(), self.layout)
        features, rest_by_vector, rest_by_task = self._views_out_of_fold(
            inputs, neighbours, by_words
        )
        full, full_seen = self._combine(features, self._columns(), self.settings.full)
        arrays |= pack("full", full, self.layout)
        heads = self._vector_heads(inputs, everything)
        arrays |= {
            "vector_heads": heads.view.heads,
            "vector_bias": heads.view.bias,
            "tasks": heads.view.tasks.astype(np.float16),
            "task_bias": heads.view.task_bias,
            "task_departures": heads.view.task_departures,
            "row_departures": neighbours.departures.astype(np.float16),
        }
        arrays |= self._finish(words_seen, full_seen, (rest_by_vector, rest_by_task, heads))
        return self._fitted("stack", arrays, familiarity)

    # Level 0: the views.

    def _words_out_of_fold(self) -> tuple[Floats, Floats]:
        """Departures (n, s) and familiarity (n,)."""
        places = self.layout.words
        found = np.zeros((len(self.ground.folds), places.total), dtype=np.float32)
        for test in self.folds:
            heads = self._word_heads(self._all_but(test))
            found[test] = heads.of(self.texts, test)
            self._count(len(test) / len(self.ground.folds))
        return found[:, places.departures], found[:, places.familiar]

    def _views_out_of_fold(
        self, inputs: Floats, neighbours: NeighbourView, by_words: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Features (n, f), and what is special to the models (n, m) by vector and by task."""
        n, models = len(inputs), sum(len(panel.columns) for panel in self.panels)
        features = np.zeros((n, len(feature_names(self.layout))), dtype=np.float32)
        by_vector, by_task = np.zeros((2, n, models), dtype=np.float32)
        unseen = self.ground.unseen
        for test in self.folds:
            heads = self._vector_heads(inputs, self._all_but(test))
            features[test], shares = features_of(
                heads.view,
                neighbours,
                by_words[test],
                inputs[test],
                self.texts.standard[test],
                unseen.rows[test],
                unseen.similarities[test],
            )
            by_vector[test] = inputs[test] @ heads.rest_heads + heads.rest_bias
            by_task[test] = shares @ heads.rest_tasks
            self._count(len(test) / len(self.ground.folds))
        return features, by_vector, by_task

    def _word_heads(self, rows: NDArray[np.bool_]) -> WordHeads:
        return fit_word_heads(self.texts, self.panels, self.layout, rows, self.lengths)

    def _vector_heads(self, inputs: Floats, rows: NDArray[np.bool_]) -> VectorHeads:
        return fit_vector_heads(
            inputs,
            self._tasks(),
            self.panels,
            [panel.rest(self.ground.table) for panel in self.panels],
            self.layout,
            rows,
        )

    def _tasks(self) -> NDArray[np.intp]:
        return np.unique(np.array(self.ground.table.tasks), return_inverse=True)[1]

    def _rows(self) -> tuple[Floats, Floats]:
        """Departures and membership of every row."""
        n = len(self.ground.folds)
        departures = np.zeros((n, self.layout.departures), dtype=np.float32)
        members = np.zeros((n, len(self.panels)), dtype=np.float32)
        for at, panel in enumerate(self.panels):
            departures[panel.rows, self.layout.of(at)] = panel.factors
            members[panel.rows, at] = 1.0
        return departures, members

    def _all_but(self, test: NDArray[np.intp]) -> NDArray[np.bool_]:
        rows = np.ones(len(self.ground.folds), dtype=np.bool_)
        rows[test] = False
        return rows

    # Level 1: combining them.

    def _columns(self) -> list[NDArray[np.intp]]:
        """Of each panel, the features that it combines."""
        return [
            self._seen_by(panel, feature_names(self.layout)) for panel in range(len(self.panels))
        ]

    def _word_columns(self) -> list[NDArray[np.intp]]:
        names = [("words", at) for at in range(self.layout.departures)]
        names += [("scalar", at) for at in range(len(SCALARS))]
        return [self._seen_by(panel, names) for panel in range(len(self.panels))]

    def _seen_by(self, panel: int, names: Sequence[tuple[str, int]]) -> NDArray[np.intp]:
        shared = {
            start + at
            for start, end in zip(self.layout.starts, self.layout.starts[1:], strict=False)
            for at in range(min(SHARED_DEPARTURES, end - start))
        }
        shared |= set(range(self.layout.starts[panel], self.layout.starts[panel + 1]))
        whole = ("scalar", "wide evidence", "sharp evidence")
        return np.array(
            [at for at, (view, place) in enumerate(names) if view in whole or place in shared]
        )

    def _combine(
        self, features: Floats, columns: Sequence[NDArray[np.intp]], settings: BoostSettings
    ) -> tuple[list[Combined], list[Array]]:
        """Of each panel: what combines the features, and the departures that it has out of fold."""
        made, seen = [], []
        for panel, chosen in zip(self.panels, columns, strict=True):
            found, unseen = combine(
                panel.rows,
                panel.factors,
                features,
                chosen,
                self.ground.folds,
                settings,
                self.ground.seed,
            )
            made.append(found)
            seen.append(unseen)
            self._count(len(panel.rows) / sum(len(each.rows) for each in self.panels))
        return made, seen

    # Level 2: the models.

    def _finish(
        self,
        words_seen: Sequence[Array],
        full_seen: Sequence[Array] | None,
        rest: tuple[Floats, Floats, VectorHeads] | None,
    ) -> dict[str, NDArray[Any]]:
        """What makes departures into each model's quality."""
        size = max(panel.factors.shape[1] for panel in self.panels)
        directions, means, doubts = [], [], []
        curves: dict[str, list[Array]] = {"words": [], "full": []}
        worth = []
        offset = 0
        for at, panel in enumerate(self.panels):
            models = len(panel.columns)
            padded = np.zeros((models, size))
            padded[:, : panel.factors.shape[1]] = panel.loadings
            directions.append(padded)
            means.append(panel.means)
            scores = self.ground.table.scores[np.ix_(panel.rows, panel.columns)]
            by_words = panel.means + words_seen[at] @ panel.loadings.T
            curves["words"].append(_calibrate(by_words, scores))
            doubt = np.zeros(models)
            if full_seen is not None and rest is not None:
                here = slice(offset, offset + models)
                own = [each[panel.rows][:, here].astype(np.float64) for each in rest[:2]]
                raw = panel.means + full_seen[at] @ panel.loadings.T
                weights = _rest_weights(scores - raw, own)
                worth.append(np.tile(weights, (models, 1)))
                raw = raw + weights[0] * own[0] + weights[1] * own[1]
                curves["full"].append(_calibrate(raw, scores))
                doubt = _relative_spread(raw - by_words)
            doubts.append(doubt)
            offset += models
        arrays: dict[str, NDArray[Any]] = {
            "model_means": np.concatenate(means).astype(np.float32),
            "model_directions": np.concatenate(directions).astype(np.float32),
            "words_curves": np.concatenate(curves["words"]).astype(np.float32),
            "doubt": np.concatenate(doubts).astype(np.float32),
        }
        if rest is not None:
            by_vector, by_task = np.concatenate(worth).T
            heads = rest[2]
            arrays |= {
                "full_curves": np.concatenate(curves["full"]).astype(np.float32),
                "rest_heads": (heads.rest_heads * by_vector).astype(np.float16),
                "rest_bias": (heads.rest_bias * by_vector).astype(np.float32),
                "rest_tasks": (heads.rest_tasks * by_task).astype(np.float16),
            }
        return arrays

    # What is written.

    def _word_arrays(self, heads: WordHeads) -> dict[str, NDArray[Any]]:
        words, shape = heads.heads[: 2**BITS], heads.heads[2**BITS :]
        scale = np.maximum(np.abs(words).max(axis=0), 1e-9) / 127.0
        return {
            "idf": self.texts.idf.astype(np.float16),
            "word_heads": np.round(words / scale).astype(np.int8),
            "word_scale": scale.astype(np.float32),
            "word_scalar_heads": (WORD_SCALARS * shape).astype(np.float32),
            "word_bias": heads.bias,
            "scalar_mean": self.texts.scalar_mean,
            "scalar_scale": self.texts.scalar_scale,
            "row_members": self._rows()[1].astype(np.uint8),
        }

    def _fitted(
        self, kind: str, arrays: dict[str, NDArray[Any]], familiarity: Floats
    ) -> FittedMethod:
        familiar, strange = np.quantile(familiarity, [FAMILIAR_WORDS, STRANGE_WORDS])
        return FittedMethod(
            kind,
            arrays=arrays,
            settings={
                "starts": list(self.layout.starts),
                "models": [list(models) for models in self.layout.models],
                "panels": [
                    {"name": panel.name, "rows": len(panel.rows), "models": len(panel.columns)}
                    for panel in self.panels
                ],
                "word_novelty": asdict(NoveltyScale(float(familiar), float(strange))),
                "boosting": asdict(self.settings),
            },
            reads_text=True,
        )

    def _count(self, part: float) -> None:
        """A part of one of the four long steps is done."""
        if self.advance is not None:
            self.advance(int(part * len(self.ground.folds)) // STEPS)


def _rest_weights(residual: Array, parts: Sequence[Array]) -> Array:
    """How far to follow each part, from 0 to 1, by least squares over all models together."""
    known = ~np.isnan(residual)
    inputs = np.stack([part[known] for part in parts], axis=1)
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += 1e-9 + 1e-3 * np.trace(gram)
    return np.clip(np.linalg.solve(gram, inputs.T @ residual[known]), 0.0, 1.0)


def _calibrate(raw: Array, scores: NDArray[np.float32]) -> Array:
    """The curve of each model, (m, KNOTS), from predictions and outcomes (n, m)."""
    known = ~np.isnan(scores)
    return np.array(
        [
            fit_curve(raw[known[:, at], at], scores[known[:, at], at].astype(np.float64))
            for at in range(raw.shape[1])
        ]
    )


def _relative_spread(difference: Array) -> Array:
    """Standard deviation of each model's difference from the mean of the others', (m,)."""
    models = difference.shape[1]
    centred = difference - difference.mean(axis=1, keepdims=True)
    return np.asarray(centred.std(axis=0) * models / (models - 1))
