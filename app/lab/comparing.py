"""Compares kinds of estimator by nested cross-validation: for each seed and fold a router of each
kind is trained on the other folds, as `train` would with everything it tunes, and predicts the rows
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.config.names import nearest
from app.errors import DataError
from app.lab.assessment import REPEATS
from app.lab.baselines import LENGTH, TASK_MEAN, baselines_of_past
from app.lab.comparison import METHODS, Round, SourceComparison, judge
from app.lab.contestants import Contestant, Routers, routers
from app.lab.embedding import EmbeddingCache, embed_all
from app.lab.folds import (
    FEWEST_FOLDS,
    Fingerprinted,
    Fold,
    all_rows,
    folds_at_random,
    folds_by_task,
    places,
    with_labels,
)
from app.lab.outcomes import OutcomeRow, OutcomeTable, Unit, build_table
from app.lab.predicting import predict
from app.lab.train import TrainSettings
from app.lab.trial import Predicted, Trial, Unscorable, build_trial, choose_pool
from app.routing.encoder.base import Encoder
from app.routing.model_names import ModelNames

Array = NDArray[np.float64]
Stage = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """`kinds` are compared with the first of them. `models` limits the pool; `strong` and `weak`
    name the pair, and are the pool where `models` is None. With `by_task` whole tasks are left out,
    in `folds` groups or each by itself with 0. `labels` rows of each scored source are learned from
    at most. Folds leave out whole questions, or only whole prompts, and so does what a kind fits
    within one: `leave_out`. `encoder` is the directory of the encoder, whose heads the kind
    `classifier` needs.
    """

    kinds: tuple[str, ...]
    folds: int = 5
    seeds: int = 3
    strong: str | None = None
    weak: str | None = None
    models: Sequence[str] | None = None
    labels: int | None = None
    by_task: bool = False
    leave_out: Unit = "question"
    encoder: Path | None = None
    repeats: int = REPEATS


@dataclass(frozen=True)
class Comparison:
    """Sources compared, and why others were not. `folds` is how many there were in each seed;
    `fit_seconds` is the mean of one training, by kind.
    """

    settings: CompareSettings
    folds: int
    tasks: int | None
    sources: tuple[SourceComparison, ...]
    skipped: Mapping[str, str]
    fit_seconds: Mapping[str, float]

    @property
    def left_out(self) -> str:
        """What was left out at a time, in words."""
        asked = self.settings
        if self.tasks is None:
            return f"a fold of {asked.folds}, by {asked.leave_out} over all files together"
        if self.folds == self.tasks:
            return f"one task of {self.tasks} at a time, with all its questions in other sources"
        return (
            f"a group of tasks at a time, {self.folds} groups of {self.tasks} tasks drawn by seed, "
            "with all their questions in other sources"
        )

    def as_dict(self) -> dict[str, Any]:
        asked = self.settings
        return {
            "estimators": list(asked.kinds),
            "compared_with": asked.kinds[0],
            "seeds": list(range(asked.seeds)),
            "folds": self.folds,
            "left_out": {
                "by": asked.leave_out if self.tasks is None else "task",
                "tasks": self.tasks,
            },
            "labels": asked.labels,
            "fit_seconds": dict(self.fit_seconds),
            "sources": [source.as_dict() for source in self.sources],
            "skipped": [{"source": name, "reason": why} for name, why in self.skipped.items()],
        }


def compare(
    rows: Sequence[OutcomeRow],
    encoder: Encoder,
    settings: CompareSettings,
    *,
    cache: EmbeddingCache | None = None,
    stage: Stage = lambda name, total: lambda done: None,
    train_routers: Routers = routers,
) -> Comparison:
    """Compares the kinds on every source that can be scored.

    Raises DataError where folds, labels or models make no sense, or no source can be scored.
    """
    if settings.folds < FEWEST_FOLDS and not (settings.by_task and settings.folds == 0):
        raise DataError(f"{settings.folds} folds: at least {FEWEST_FOLDS} are needed")
    table = build_table(rows, merge=False)
    trials, skipped = _trials(table, settings)
    by_seed = _folds(table, trials, settings)
    arena = _Arena(rows, table, trials, encoder, cache, stage, train_routers)
    runs = settings.seeds * len(by_seed[0]) * len(settings.kinds)
    advance = stage("Training and predicting", runs)
    seconds: dict[str, list[float]] = {kind: [] for kind in settings.kinds}
    rounds = [
        arena.run(folds, settings, seed, seconds, advance) for seed, folds in enumerate(by_seed)
    ]
    steps = settings.seeds * (len(settings.kinds) + len(METHODS))
    sources = [
        judge(
            of_source,
            settings.kinds,
            repeats=settings.repeats,
            advance=stage(f"{of_source[0].trial.source}: bootstrapping", steps),
        )
        for of_source in zip(*rounds, strict=True)
    ]
    tasks = sum(len(fold.tasks) for fold in by_seed[0]) if settings.by_task else None
    fit_seconds = {kind: float(np.mean(each)) for kind, each in seconds.items()}
    return Comparison(settings, len(by_seed[0]), tasks, tuple(sources), skipped, fit_seconds)


def _folds(
    table: OutcomeTable, trials: Sequence[Trial], settings: CompareSettings
) -> list[list[Fold]]:
    """The folds of each seed."""
    known, scored = Fingerprinted.of(table), all_rows(trials)
    by_seed = []
    for seed in range(settings.seeds):
        if settings.by_task:
            folds = folds_by_task(table, known, scored, settings.folds, seed)
        else:
            folds = folds_at_random(table, known, settings.folds, seed, settings.leave_out)
        if settings.labels is not None:
            folds = [with_labels(fold, table, trials, settings.labels, seed) for fold in folds]
        by_seed.append(folds)
    return by_seed


def _trials(table: OutcomeTable, settings: CompareSettings) -> tuple[list[Trial], dict[str, str]]:
    """What is scored in each source, with costs not expected yet, and why others are not."""
    if (settings.strong is None) != (settings.weak is None):
        raise DataError("a strong and a weak model belong together: name both or none")
    pair = _columns(table, [each for each in (settings.strong, settings.weak) if each is not None])
    if len(set(pair)) == 1:
        raise DataError(f"strong and weak are the same model: {pair[0]}")
    candidates = [] if pair else list(table.models)
    if settings.models is not None:
        candidates = _columns(table, settings.models)
    strong, weak = pair or (None, None)
    trials, skipped = [], {}
    sources = np.array(table.sources)
    for source in sorted(set(table.sources)):
        try:
            pool = choose_pool(table, np.flatnonzero(sources == source), candidates, pair)
        except Unscorable as reason:
            skipped[source] = str(reason)
            continue
        unknown = np.full((len(pool.rows), len(pool.models)), np.nan)
        trials.append(
            build_trial(
                table, pool, source=source, expected_costs=unknown, strong=strong, weak=weak
            )
        )
    if not trials:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise DataError(f"no source can be scored: {reasons}")
    return trials, skipped


def _columns(table: OutcomeTable, names: Sequence[str]) -> list[str]:
    """The table's own names of these models, however they are spelt."""
    known = ModelNames(table.models)
    columns = []
    for name in names:
        found = known.find(name)
        if found is None:
            hint = nearest(name, table.models) or f"they know {len(table.models)} others"
            raise DataError(f"the files have no outcomes of: {name}; {hint}")
        columns.append(found)
    return columns


class _Arena:
    """Rows, their vectors, and what is scored: the same in every seed."""

    def __init__(
        self,
        rows: Sequence[OutcomeRow],
        table: OutcomeTable,
        trials: Sequence[Trial],
        encoder: Encoder,
        cache: EmbeddingCache | None,
        stage: Stage,
        train_routers: Routers,
    ) -> None:
        by_key = {(row.id, row.kind == "preferences"): row for row in rows}
        keys = zip(table.ids, table.relative.tolist(), strict=True)
        self._rows = [by_key[key] for key in keys]
        self._table = table
        self._trials = trials
        self._vectors = embed_all(
            encoder, table.prompts, cache, stage("Encoding prompts", len(table))
        )
        self._place = {prompt: at for at, prompt in enumerate(table.prompts)}
        self._encoder = {
            "name": "compared",
            "fingerprint": encoder.fingerprint,
            "dimensions": encoder.dimensions,
        }
        self._train_routers = train_routers

    def run(
        self,
        folds: Sequence[Fold],
        asked: CompareSettings,
        seed: int,
        seconds: Mapping[str, list[float]],
        advance: Callable[[int], None],
    ) -> list[Round]:
        """Predictions of all sources, each row's from routers trained without its fold."""
        guesses = [_Guesses(trial, self._table) for trial in self._trials]
        for number, fold in enumerate(folds):
            for guess in guesses:
                guess.learn_baselines(number, fold)
            # Merged as for `train`: a prompt that two sources share counts once.
            train = build_table(self._rows[row] for row in fold.train)
            vectors = self._vectors[[self._place[prompt] for prompt in train.prompts]]
            settings = TrainSettings(
                seed=seed, test_share=0.0, encoder=asked.encoder, folds_by=asked.leave_out
            )
            for one in self._train_routers(train, vectors, asked.kinds, settings, self._encoder):
                seconds[one.kind].append(one.seconds)
                for guess in guesses:
                    guess.predict(one, fold, self._vectors)
                advance(1)
        return [guess.round() for guess in guesses]


class _Guesses:
    """Predictions of one source, filled fold by fold."""

    def __init__(self, trial: Trial, table: OutcomeTable) -> None:
        self._trial = trial
        self._table = table
        self._folds = np.full(len(trial), -1, dtype=np.intp)
        self._quality: dict[str, Array] = {}
        self._low: dict[str, Array] = {}
        self._words: dict[str, Array] = {}
        self._seconds: dict[str, float] = {}
        self._expected = self._unknown()
        self._fewest_labels = len(trial)

    def learn_baselines(self, number: int, fold: Fold) -> None:
        """What simple methods predict for the fold, from the source's rows outside it or, where
        there are none, from all that is learned from.
        """
        rows, at = places(self._trial, fold.test)
        past, _ = places(self._trial, fold.train)
        self._fewest_labels = min(self._fewest_labels, len(past))
        learned = baselines_of_past(self._table, rows, (past, fold.train), self._trial.models)
        self._folds[at] = number
        self._fill(self._quality, LENGTH, at, learned.length)
        self._fill(self._quality, TASK_MEAN, at, learned.task_mean)
        # Without a past, what a model costs on average is known from its price.
        usual = self._trial.costs.mean(axis=0)
        costs = learned.expected_costs
        self._expected[at] = np.where(np.isnan(costs), usual, costs)

    def predict(self, one: Contestant, fold: Fold, vectors: NDArray[np.float32]) -> None:
        """What a router predicts for the fold, and where it reads text, from the words alone."""
        rows, at = places(self._trial, fold.test)
        if not len(rows):
            return
        models, prompts = self._trial.models, [self._table.prompts[row] for row in rows]
        started = perf_counter()
        full = predict(one.artifact, models, prompts, vectors[rows])
        taken = perf_counter() - started
        self._seconds[one.kind] = self._seconds.get(one.kind, 0.0) + taken
        self._fill(self._quality, one.kind, at, full.quality)
        if full.low is not None:
            self._fill(self._low, one.kind, at, full.low)
        if one.artifact.reads_text:
            words = predict(one.artifact, models, prompts, None)
            self._fill(self._words, one.kind, at, words.quality)

    def round(self) -> Round:
        names = [name for name in self._quality if name not in (LENGTH, TASK_MEAN)]
        predicted = {
            name: Predicted(self._quality[name], self._low.get(name))
            for name in (*names, LENGTH, TASK_MEAN)
        }
        return Round(
            trial=replace(self._trial, expected_costs=self._expected),
            folds=self._folds,
            predicted=predicted,
            by_words={name: Predicted(quality) for name, quality in self._words.items()},
            microseconds={n: 1e6 * each / len(self._trial) for n, each in self._seconds.items()},
            fewest_labels=self._fewest_labels,
        )

    def _fill(self, kept: dict[str, Array], name: str, at: NDArray[np.intp], values: Array) -> None:
        kept.setdefault(name, self._unknown())[at] = values

    def _unknown(self) -> Array:
        return np.full(self._trial.scores.shape, np.nan)
