"""Fits the meta-regression (`app.routing.estimators.regression`).

Two levels in folds by question: ridge heads on the vector learn difficulty from all sources, and
for each model trees and a linear regression learn its quality from what heads say of prompts that
they have not seen. What a regression is worth, and its calibration, come from prompts that it has
not seen either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.fit import FittedTable, Vectors
from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.boosting import BoostSettings, require_lightgbm
from app.lab.methods.calibration import fit_curve
from app.lab.methods.combining import Combined, combine, pack, share
from app.lab.methods.panels import Panel, find_panels
from app.lab.methods.stack import SHARED_DEPARTURES
from app.lab.methods.views import VECTOR_PENALTY, ridge, standard_scalars
from app.lab.outcomes import OutcomeTable
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.regression import PromptView
from app.routing.estimators.views import Floats, Layout, VectorView
from app.routing.estimators.words import SCALARS

FEWEST_OUTCOMES = 50
"""A model with fewer has no regression of its own."""

SHRUNK_BY = 50.0
"""Rows' worth of the model's mean that its regression is shrunk by."""

COMPONENTS = 32


@dataclass(frozen=True, slots=True)
class Regressions:
    """One a fitted model, of `columns`. `usual` (m,) is each one's mean over all prompts, `worth`
    (m,) how far to follow its regression from there, `curves` (m, KNOTS) calibrate it.
    """

    columns: NDArray[np.intp]
    view: PromptView
    combined: tuple[Combined, ...]
    usual: Array
    worth: Array
    curves: Array


def fit_regression(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """Raises DataError where no model has enough outcomes, or LightGBM is missing."""
    settings = BoostSettings()
    found = regress(ground, settings, advance)
    one_each = Layout(
        starts=tuple(range(len(found.columns) + 1)),
        models=tuple((int(column),) for column in found.columns),
    )
    finish = np.column_stack([found.usual, found.worth])
    return FittedMethod(
        "meta-regression",
        arrays={
            "columns": found.columns.astype(np.uint16),
            "heads": found.view.heads,
            "bias": found.view.bias,
            "scalar_mean": found.view.scalar_mean,
            "scalar_scale": found.view.scalar_scale,
            "finish": finish.astype(np.float32),
            "curves": found.curves.astype(np.float32),
            **pack("regression", found.combined, one_each),
        },
        settings={"models": len(found.columns), "boosting": asdict(settings)},
    )


def regress(ground: Ground, settings: BoostSettings, advance: Advance | None = None) -> Regressions:
    table = ground.table
    target = _departures(table, usual := _usual(ground.fitted))
    learned = ~np.isnan(target)
    columns = np.flatnonzero(learned.sum(axis=0) >= FEWEST_OUTCOMES)
    if not len(columns):
        raise DataError(
            f"no model has {FEWEST_OUTCOMES} outcomes to regress on; choose --estimator knn"
        )
    require_lightgbm()
    panels = find_panels(table)
    features, view = _look(ground, panels)
    combined, worth, curves = [], [], []
    for column in columns:
        rows = np.flatnonzero(learned[:, column])
        here = target[rows, column]
        made, seen = combine(
            rows,
            here[:, None],
            features,
            _seen_by(int(column), panels, features.shape[1]),
            ground.folds,
            settings,
            ground.seed,
        )
        departures = seen[:, 0]
        follow = share(here, departures) * len(rows) / (len(rows) + SHRUNK_BY)
        scored = ~table.relative[rows]
        raw = usual[column] + follow * departures[scored]
        scores = table.scores[rows[scored], column].astype(np.float64)
        combined.append(made)
        worth.append(follow)
        curves.append(fit_curve(raw, scores))
        if advance is not None:
            advance(len(table) // len(columns))
    return Regressions(
        columns, view, tuple(combined), usual[columns], np.array(worth), np.array(curves)
    )


def _usual(fitted: FittedTable) -> Array:
    """(m,) means over the clusters and not over a model's own prompts, so that one which was scored
    on hard prompts only is not thought weak.
    """
    return fitted.table.weights.astype(np.float64) @ sigmoid(fitted.table.cells.astype(np.float64))


def _departures(table: OutcomeTable, usual: Array) -> Array:
    """(n, m) of scores from the usual; nan where nothing is to be learned. Win rates have no level:
    in their rows a departure is relative to those of the other models.
    """
    departures = table.scores.astype(np.float64) - usual
    rates = departures[table.relative]
    known = ~np.isnan(rates)
    count = known.sum(axis=1, keepdims=True)
    mean = np.where(known, rates, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    departures[table.relative] = np.where(count >= 2, rates - mean, np.nan)
    return departures


def _look(ground: Ground, panels: Sequence[Panel]) -> tuple[Floats, PromptView]:
    """Features of every row, with heads that have not seen it; and the view that serves, with heads
    that have seen all.
    """
    standard, mean, scale = standard_scalars(ground.table.prompts)
    inputs = VectorView.inputs(ground.vectors, standard)
    components, offset = _components(ground.vectors)
    everything = np.arange(len(ground.table))

    def view(rows: NDArray[np.intp], fitted: FittedTable) -> PromptView:
        heads, bias = _difficulty_heads(ground, panels, inputs, rows, fitted)
        return PromptView(
            np.hstack([heads, components]).astype(np.float32),
            np.hstack([bias, offset]).astype(np.float32),
            mean,
            scale,
        )

    whole = view(everything, ground.fitted)
    features = whole.features(ground.vectors, standard)
    for fold, fitted in ground.unseen.fitted.items():
        test = ground.folds == fold
        blind = view(np.flatnonzero(~test), fitted)
        features[test] = blind.features(ground.vectors[test], standard[test])
    return features, whole


def _components(vectors: Vectors) -> tuple[Array, Array]:
    """Principal components of vectors with scalars beside them, (d + 26, c), and their offset (c,).

    The scalars are features themselves, so they have no part in it.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    leading = directions[:, ::-1][:, :COMPONENTS]
    # The sign is arbitrary: fix it, so that the same rows give the same bytes.
    largest = np.abs(leading).argmax(axis=0)
    leading = leading * np.sign(leading[largest, np.arange(leading.shape[1])])
    return np.vstack([leading, np.zeros((len(SCALARS), leading.shape[1]))]), -mean @ leading


def _difficulty_heads(
    ground: Ground,
    panels: Sequence[Panel],
    inputs: Floats,
    rows: NDArray[np.intp],
    fitted: FittedTable,
) -> tuple[Array, Array]:
    """Weights (d + 26, 1 + s) and bias, from these rows: how easy a prompt is for any model, then
    each panel's factors. `fitted` is over the same rows.
    """
    ease = fitted.table.ease[fitted.row_clusters].astype(np.float64) + fitted.difficulty
    scored = ~ground.table.relative[rows]
    taught = [(rows[scored], ease[scored][:, None])]
    among = np.zeros(len(ground.table), dtype=np.bool_)
    among[rows] = True
    for panel in panels:
        inside = among[panel.rows]
        taught.append((panel.rows[inside], panel.factors[inside]))
    heads, biases = [], []
    for chosen, targets in taught:
        weights = np.zeros((inputs.shape[1], targets.shape[1]))
        bias = np.zeros(targets.shape[1])
        if len(chosen):
            weights, bias = ridge(inputs[chosen].astype(np.float64), targets, VECTOR_PENALTY)
        heads.append(weights)
        # Cross-fitted tables have no common zero, and trees would take its shifts for a signal.
        biases.append(bias - targets.mean(axis=0) if len(chosen) else bias)
    return np.hstack(heads), np.hstack(biases)


def _seen_by(column: int, panels: Sequence[Panel], width: int) -> NDArray[np.intp]:
    """Which of the features a model's regression looks at: of panels without it, the common factor
    and the largest directions only.
    """
    seen = [0]
    start = 1
    for panel in panels:
        size = panel.factors.shape[1]
        seen += range(
            start, start + (size if column in panel.columns else min(size, SHARED_DEPARTURES))
        )
        start += size
    return np.array([*seen, *range(start, width)], dtype=np.intp)
