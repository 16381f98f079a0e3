"""Fits the stack, the default estimator, and the text estimator that is one half of it.

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
from app.lab.ground import FAMILIAR_QUANTILE, STRANGE_QUANTILE, Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.boosting import Boosted, BoostSettings, boost
from app.lab.methods.panels import FEWEST_ROWS, find_panels
from app.lab.methods.platt import fit_platt
from app.lab.methods.views import (
    WORD_SCALARS,
    VectorHeads,
    WordHeads,
    features_of,
    fit_vector_heads,
    fit_word_heads,
    read_texts,
    relative_lengths,
    ridge,
    vectors_with_scalars,
)
from app.routing.estimators.base import Array
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.views import Floats, Layout, NeighbourView, feature_names
from app.routing.estimators.words import BITS, SCALARS

SHARED_DEPARTURES = 3
"""Of other panels, an output sees this many departures: common, and the two largest directions."""

LINEAR_PENALTY = 300.0


@dataclass(frozen=True, slots=True)
class StackSettings:
    full: BoostSettings = field(default_factory=BoostSettings)
    words: BoostSettings = field(default_factory=BoostSettings)


@dataclass(frozen=True, slots=True)
class Combined:
    """A panel's departures from features: trees and linear stack, `mix` the weight of the trees."""

    boosted: tuple[Boosted, ...]
    linear: Array
    bias: Array
    mix: float
    columns: NDArray[np.intp]

    def of(self, features: Floats) -> Array:
        """(n, 1 + k)"""
        return self.mix * self._trees(features) + (1.0 - self.mix) * self._linear(features)

    def _trees(self, features: Floats) -> Array:
        inputs = features[:, self.columns]
        return np.stack([each.predict(inputs) for each in self.boosted], axis=1)

    def _linear(self, features: Floats) -> Array:
        return np.asarray(features[:, self.columns] @ self.linear + self.bias)


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
        by_words = self._words_out_of_fold()
        heads = self._word_heads(np.ones(len(self.ground.folds), dtype=np.bool_))
        arrays = self._word_arrays(heads)
        features = np.hstack([by_words, self.texts.standard])
        combined, seen = self._combine(features, self._word_columns(), self.settings.words)
        arrays |= self._pack("words", combined)
        arrays |= self._finish(seen, None, None)
        return self._fitted("text", arrays)

    def stack(self) -> FittedMethod:
        ground, everything = self.ground, np.ones(len(self.ground.folds), dtype=np.bool_)
        by_words = self._words_out_of_fold()
        arrays = self._word_arrays(self._word_heads(everything))
        word_features = np.hstack([by_words, self.texts.standard])
        words, words_seen = self._combine(word_features, self._word_columns(), self.settings.words)
        arrays |= self._pack("words", words)

        inputs = vectors_with_scalars(ground.vectors, self.texts)
        neighbours = NeighbourView.of(*self._rows(), self.layout)
        features, rest_by_vector, rest_by_task = self._views_out_of_fold(
            inputs, neighbours, by_words
        )
        full, full_seen = self._combine(features, self._columns(), self.settings.full)
        arrays |= self._pack("full", full)
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
        return self._fitted("stack", arrays)

    # Level 0: the views.

    def _words_out_of_fold(self) -> Floats:
        departures, *_ = self.layout.words
        found = np.zeros((len(self.ground.folds), self.layout.departures), dtype=np.float32)
        for test in self.folds:
            heads = self._word_heads(self._all_but(test))
            found[test] = heads.of(self.texts, test)[:, departures]
            self._count(len(test), 2)
        return found

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
            self._count(len(test), 2)
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
        """For each panel what combines all rows' features, and each row's departures from what
        combines the other folds'.
        """
        made, seen = [], []
        for panel, chosen in zip(self.panels, columns, strict=True):
            inputs = np.ascontiguousarray(features[panel.rows][:, chosen])
            trees, linear = np.zeros((2, *panel.factors.shape))
            of_row = self.ground.folds[panel.rows]
            for fold in range(len(self.folds)):
                train, test = of_row != fold, of_row == fold
                if not test.any() or train.sum() < 2:
                    continue
                weights, bias = _linear_stack(inputs[train], panel.factors[train])
                linear[test] = inputs[test] @ weights + bias
                trees[test] = self._boost(
                    inputs[train], panel.factors[train], settings, inputs[test]
                )
            mix = _share(panel.factors - linear, trees - linear)
            weights, bias = _linear_stack(inputs, panel.factors)
            boosted = tuple(
                boost(inputs, target, settings, self.ground.seed + at)
                for at, target in enumerate(panel.factors.T)
            )
            made.append(Combined(boosted, weights, bias, mix, chosen))
            seen.append(mix * trees + (1.0 - mix) * linear)
            self._count(len(panel.rows), 3)
        return made, seen

    def _boost(
        self, inputs: Floats, targets: Array, settings: BoostSettings, queries: Floats
    ) -> Array:
        return np.stack(
            [
                boost(inputs, target, settings, self.ground.seed + at).predict(queries)
                for at, target in enumerate(targets.T)
            ],
            axis=1,
        )

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
        platt: dict[str, list[Array]] = {"words": [], "full": []}
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
            words_platt = fit_platt(by_words, scores)
            platt["words"].append(words_platt)
            quality = _calibrated(by_words, words_platt)
            doubt = np.zeros(models)
            if full_seen is not None and rest is not None:
                here = slice(offset, offset + models)
                own = [each[panel.rows][:, here].astype(np.float64) for each in rest[:2]]
                raw = panel.means + full_seen[at] @ panel.loadings.T
                weights = _rest_weights(scores - raw, own)
                worth.append(np.tile(weights, (models, 1)))
                raw = raw + weights[0] * own[0] + weights[1] * own[1]
                full_platt = fit_platt(raw, scores)
                platt["full"].append(full_platt)
                doubt = _relative_spread(_calibrated(raw, full_platt) - quality)
            doubts.append(doubt)
            offset += models
        arrays: dict[str, NDArray[Any]] = {
            "model_means": np.concatenate(means).astype(np.float32),
            "model_directions": np.concatenate(directions).astype(np.float32),
            "words_platt": np.concatenate(platt["words"]).astype(np.float32),
            "doubt": np.concatenate(doubts).astype(np.float32),
        }
        if rest is not None:
            by_vector, by_task = np.concatenate(worth).T
            heads = rest[2]
            arrays |= {
                "full_platt": np.concatenate(platt["full"]).astype(np.float32),
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
            "word_known": np.packbits(self.texts.known),
            "row_members": self._rows()[1].astype(np.uint8),
        }

    def _pack(self, kind: str, combined: Sequence[Combined]) -> dict[str, NDArray[Any]]:
        """Trees of all outputs, and the linear stack over all features."""
        count = 1 + max(int(each.columns.max()) for each in combined)
        linear = np.zeros((count, self.layout.departures), dtype=np.float32)
        bias = np.zeros(self.layout.departures, dtype=np.float32)
        packed: list[tuple[NDArray[Any], ...]] = []
        for at, each in enumerate(combined):
            inside = self.layout.of(at)
            linear[each.columns, inside] = (1.0 - each.mix) * each.linear
            bias[inside] = (1.0 - each.mix) * each.bias
            for model in each.boosted:
                features, thresholds, leaves = model.pack(each.columns)
                packed.append((features, thresholds, each.mix * leaves))
        features, thresholds, leaves = (np.stack(each) for each in zip(*packed, strict=True))
        return {
            f"{kind}_features": features,
            f"{kind}_thresholds": thresholds,
            f"{kind}_leaves": leaves.astype(np.float16),
            f"{kind}_linear": linear,
            f"{kind}_bias": bias,
        }

    def _fitted(self, kind: str, arrays: dict[str, NDArray[Any]]) -> FittedMethod:
        share = self.texts.known_share
        familiar, strange = np.quantile(share, [FAMILIAR_QUANTILE, STRANGE_QUANTILE])
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

    def _count(self, rows: int, parts: int) -> None:
        if self.advance is not None:
            self.advance(rows // (4 * parts))


def _linear_stack(inputs: Floats, targets: Array) -> tuple[Array, Array]:
    """Ridge on standardised inputs, as weights of the inputs as they are."""
    mean = inputs.mean(axis=0, dtype=np.float64)
    scale = np.maximum(inputs.std(axis=0, dtype=np.float64), 1e-6)
    weights, bias = ridge((inputs - mean) / scale, targets, LINEAR_PENALTY)
    weights = weights / scale[:, None]
    return weights, np.asarray(bias - mean @ weights)


def _share(target: Array, step: Array) -> float:
    """The part of a step, from 0 to 1, that comes closest to the target."""
    size = float((step * step).sum())
    return min(1.0, max(0.0, float((target * step).sum()) / size)) if size > 0 else 0.0


def _rest_weights(residual: Array, parts: Sequence[Array]) -> Array:
    """How far to follow each part, from 0 to 1, by least squares over all models together."""
    known = ~np.isnan(residual)
    inputs = np.stack([part[known] for part in parts], axis=1)
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += 1e-9 + 1e-3 * np.trace(gram)
    return np.clip(np.linalg.solve(gram, inputs.T @ residual[known]), 0.0, 1.0)


def _calibrated(raw: Array, platt: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-(platt[:, 0] * raw + platt[:, 1]))))


def _relative_spread(difference: Array) -> Array:
    """Standard deviation of each model's difference from the mean of the others', (m,)."""
    models = difference.shape[1]
    centred = difference - difference.mean(axis=1, keepdims=True)
    return np.asarray(centred.std(axis=0) * models / (models - 1))
