"""What simple methods predict, for comparison: prompt length only, the task's mean with its label
known, and what a prompt of its length costs.

They learn from the rows the router was trained on, where the files hold more of these than of the
rows scored; else each fifth of the rows scored is predicted from the other four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.fingerprints import question_fingerprints
from app.lab.outcomes import OutcomeTable

Array = NDArray[np.float64]

FOLDS = 5
LENGTH, TASK_MEAN = "length", "task mean"


@dataclass(frozen=True, slots=True)
class Baselines:
    """Predictions (n, m) for the rows scored. `rows` is how many they learned from."""

    length: Array
    task_mean: Array
    expected_costs: Array
    rows: int
    crossfitted: bool

    def as_dict(self) -> dict[str, object]:
        return {"learned_from_rows": self.rows, "crossfitted": self.crossfitted}


@dataclass(frozen=True, slots=True)
class _Known:
    """What simple methods see of some prompts; `scores` and `costs` (n, m) may have gaps."""

    lengths: Array
    tasks: tuple[str, ...]
    scores: Array
    costs: Array

    def take(self, rows: NDArray[np.intp]) -> _Known:
        return _Known(
            self.lengths[rows],
            tuple(self.tasks[row] for row in rows),
            self.scores[rows],
            self.costs[rows],
        )


def learn_baselines(
    table: OutcomeTable,
    scored: NDArray[np.intp],
    trained: NDArray[np.intp],
    models: Sequence[str],
) -> Baselines:
    """For the `scored` rows of a table; `trained` rows are those that the router was trained on."""
    to_predict = _known(table, scored, models)
    columns = [table.columns[name] for name in models]
    past = trained[~np.isnan(table.scores[trained][:, columns]).any(axis=1)]
    if len(past) > len(scored):
        length, task, costs = _predict(_known(table, past, models), to_predict)
        return Baselines(length, task, costs, len(past), crossfitted=False)
    folds = question_fingerprints([table.prompts[row] for row in scored]) % np.uint64(FOLDS)
    length, task, costs = (np.empty_like(to_predict.scores) for _ in range(3))
    for fold in range(FOLDS):
        here, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if not len(others):
            others = here
        found = _predict(to_predict.take(others), to_predict.take(here))
        length[here], task[here], costs[here] = found
    return Baselines(length, task, costs, len(scored), crossfitted=True)


def baselines_of_past(
    table: OutcomeTable,
    scored: NDArray[np.intp],
    past: Sequence[NDArray[np.intp]],
    models: Sequence[str],
) -> Baselines:
    """For the `scored` rows, from the first part of the `past` with rows that all models answered.

    Where there is none, nothing is known: all is as good as all else, and costs are nan.
    """
    columns = [table.columns[name] for name in models]
    now = _known(table, scored, models)
    for part in past:
        rows = part[~np.isnan(table.scores[part][:, columns]).any(axis=1)]
        if len(rows):
            found = _predict(_known(table, rows, models), now)
            return Baselines(*found, len(rows), crossfitted=False)
    even = np.full_like(now.scores, 0.5)
    return Baselines(even, even, np.full_like(even, np.nan), 0, crossfitted=False)


def _known(table: OutcomeTable, rows: NDArray[np.intp], models: Sequence[str]) -> _Known:
    columns = [table.columns[name] for name in models]
    return _Known(
        lengths=np.array([len(table.prompts[row]) for row in rows], dtype=np.float64),
        tasks=tuple(table.tasks[row] for row in rows),
        scores=table.scores[rows][:, columns].astype(np.float64),
        costs=table.costs_usd[rows][:, columns].astype(np.float64),
    )


def _predict(past: _Known, now: _Known) -> tuple[Array, Array, Array]:
    """Scores by a line in the logarithm of the length, scores by task, costs by a line in the
    length.
    """
    logs = np.log1p(past.lengths), np.log1p(now.lengths)
    by_length = np.column_stack([_line(logs[0], column, logs[1]) for column in past.scores.T])
    costs = np.column_stack([_cost(past.lengths, each, now.lengths) for each in past.costs.T])
    return np.clip(by_length, 0.0, 1.0), _task_means(past, now.tasks), costs


def _line(x: Array, y: Array, at: Array) -> Array:
    """The least-squares line through what is known, at other places; nan where nothing is."""
    known = np.isfinite(y)
    if not known.any():
        return np.full(len(at), np.nan)
    x, y = x[known], y[known]
    spread = x - x.mean()
    variance = float(spread @ spread)
    slope = float(spread @ (y - y.mean())) / variance if variance > 0 else 0.0
    line: Array = y.mean() + slope * (at - x.mean())
    return line


def _cost(lengths: Array, costs: Array, at: Array) -> Array:
    """A line that never falls under the least cost seen."""
    known = costs[np.isfinite(costs)]
    return np.maximum(_line(lengths, costs, at), known.min() if len(known) else np.nan)


def _task_means(past: _Known, tasks: Sequence[str]) -> Array:
    """Each task's mean score by model; of a task without outcomes, the mean over all."""
    codes = {task: code for code, task in enumerate(dict.fromkeys(past.tasks))}
    place = np.array([codes[task] for task in past.tasks], dtype=np.intp)
    known = np.isfinite(past.scores)
    count, total = np.zeros((2, len(codes) + 1, past.scores.shape[1]))
    np.add.at(count, place, known)
    np.add.at(total, place, np.where(known, past.scores, 0.0))
    overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    means = np.where(count > 0, total / np.maximum(count, 1), overall)
    return means[[codes.get(task, len(codes)) for task in tasks]]
