"""Scores a trained router on rows it has not seen, pair by pair, beside what knowing only the task
would give.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.fit import Vectors
from app.lab.metrics import bootstrap_interval, exact_curve, routellm_curve, task_mean_gain
from app.lab.outcomes import OutcomeTable
from app.routing.artifact import Artifact
from app.routing.estimators.base import Array, Candidate, Query

FEWEST_ROWS = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison: prompts of a source, a strong model and a weak one."""

    source: str
    strong: str
    weak: str


DEFAULT_PAIRS = (
    Pair("routellm_mmlu", "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("routellm_gsm8k", "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "gemini-1.5-flash-002"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "Meta-Llama-3.1-8B-Instruct"),
    Pair("mmlu_pro", "Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
    Pair("mmlu_pro", "Meta-Llama-3.1-70B-Instruct", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("zeroeval", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    Pair("zeroeval", "claude-3-5-sonnet-20241022", "claude-3-haiku-20240307"),
    Pair("zeroeval", "gemini-1.5-pro", "gemini-1.5-flash"),
)


@dataclass(frozen=True, slots=True)
class PairResult:
    """Figures for one pair. `apgr_task_mean` knows each prompt's task label and nothing else."""

    source: str
    strong: str
    weak: str
    rows: int
    weak_quality: float
    strong_quality: float
    apgr: float
    apgr_low: float
    apgr_high: float
    apgr_routellm: float
    cpt50: float
    cpt80: float
    apgr_task_mean: float
    brier: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def evaluate_pairs(
    artifact: Artifact,
    train_rows: OutcomeTable,
    test_rows: OutcomeTable,
    vectors: Vectors,
    pairs: Iterable[Pair] = DEFAULT_PAIRS,
    seed: int = 0,
) -> list[PairResult]:
    """One result a pair with enough rows. Rows are not merged, so each source is scored by its own
    outcomes.
    """
    results = []
    for pair in pairs:
        if pair.strong not in test_rows.columns or pair.weak not in test_rows.columns:
            continue
        rows = _rows_of(test_rows, pair)
        if len(rows) < FEWEST_ROWS:
            continue
        estimator = artifact.estimator([Candidate(pair.strong), Candidate(pair.weak)])
        quality = np.stack([estimator.estimate(Query("", vectors[row])).quality for row in rows])
        results.append(_score(pair, train_rows, test_rows, rows, quality, seed))
    return results


def _score(
    pair: Pair,
    train_rows: OutcomeTable,
    test_rows: OutcomeTable,
    rows: NDArray[np.intp],
    quality: Array,
    seed: int,
) -> PairResult:
    strong, weak = _scores(test_rows, pair.strong)[rows], _scores(test_rows, pair.weak)[rows]
    gain = quality[:, 0] - quality[:, 1]
    exact, published = exact_curve(gain, weak, strong), routellm_curve(gain, weak, strong)
    low, high = bootstrap_interval(gain, weak, strong, seed=seed)
    by_task = _task_mean(train_rows, pair, [test_rows.tasks[row] for row in rows])
    return PairResult(
        source=pair.source,
        strong=pair.strong,
        weak=pair.weak,
        rows=len(rows),
        weak_quality=exact.weak,
        strong_quality=exact.strong,
        apgr=exact.apgr(),
        apgr_low=low,
        apgr_high=high,
        apgr_routellm=published.apgr(),
        cpt50=published.cpt(0.5),
        cpt80=published.cpt(0.8),
        apgr_task_mean=exact_curve(by_task, weak, strong).apgr(),
        brier=float(np.mean((quality[:, 1] - weak) ** 2)),
    )


def _rows_of(table: OutcomeTable, pair: Pair) -> NDArray[np.intp]:
    here = np.array([source == pair.source for source in table.sources])
    both = ~np.isnan(_scores(table, pair.strong)) & ~np.isnan(_scores(table, pair.weak))
    return np.flatnonzero(here & both)


def _scores(table: OutcomeTable, model: str) -> Array:
    return table.scores[:, table.columns[model]].astype(np.float64)


def _task_mean(train_rows: OutcomeTable, pair: Pair, tasks: Sequence[str]) -> Array:
    rows = _rows_of(train_rows, pair)
    gain = _scores(train_rows, pair.strong)[rows] - _scores(train_rows, pair.weak)[rows]
    return task_mean_gain([train_rows.tasks[row] for row in rows], gain, tasks)
