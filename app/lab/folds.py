"""Which rows a comparison leaves out at a time: questions at random, or whole tasks, to see what a
router is worth where it has no labels.

What is tested is never learned from, in whatever file it lies: a row is out of training if its
question or its whole prompt is tested, or, where asked for as published figures have it, only if
its whole prompt is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.fingerprints import prompt_fingerprints, question_fingerprints
from app.lab.ground import fold_of
from app.lab.outcomes import OutcomeTable, Unit
from app.lab.trial import Trial

Rows = NDArray[np.intp]

FEWEST_FOLDS = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows of a table to predict and rows to learn from, both rising. `tasks` are those left out,
    where tasks are.
    """

    test: Rows
    train: Rows
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprinted:
    """Fingerprints of a table's rows, made once for all seeds."""

    prompts: NDArray[np.uint64]
    questions: NDArray[np.uint64]

    @classmethod
    def of(cls, table: OutcomeTable) -> Fingerprinted:
        return cls(prompt_fingerprints(table.prompts), question_fingerprints(table.prompts))

    def unlike(self, test: Rows, by: Unit = "question") -> NDArray[np.bool_]:
        """Which rows share neither question nor prompt with a tested one, or not its prompt."""
        same = np.isin(self.prompts, self.prompts[test])
        if by == "question":
            same |= np.isin(self.questions, self.questions[test])
        return np.asarray(~same)


def folds_at_random(
    table: OutcomeTable, known: Fingerprinted, folds: int, seed: int, by: Unit = "question"
) -> list[Fold]:
    """Every row is tested once. Raises DataError where there are fewer questions than folds."""
    distinct = len(np.unique(known.questions if by == "question" else known.prompts))
    if distinct < folds:
        raise DataError(f"{distinct} {by}s make no {folds} folds: fewer folds, or more rows")
    codes = fold_of(table.prompts, folds, seed, by)
    tests = (np.flatnonzero(codes == fold) for fold in range(folds))
    return [Fold(test, np.flatnonzero(known.unlike(test, by))) for test in tests]


def folds_by_task(
    table: OutcomeTable, known: Fingerprinted, scored: Rows, folds: int, seed: int
) -> list[Fold]:
    """Tasks of the `scored` rows in so many groups, or each by itself with 0 folds; scored rows of
    the group are tested. No row of a task with such a name is learned from, of whatever source.
    """
    names = np.array(table.tasks)
    tasks = sorted(set(names[scored].tolist()))
    if len(tasks) < FEWEST_FOLDS:
        raise DataError(f"a task is left out at a time, but all scored rows are of {tasks[0]}")
    order = [tasks[at] for at in np.random.default_rng(seed).permutation(len(tasks))]
    groups = len(tasks) if folds == 0 else min(folds, len(tasks))
    found = []
    for group in range(groups):
        left_out = sorted(order[group::groups])
        of_group = np.isin(names, left_out)
        test = scored[of_group[scored]]
        found.append(Fold(test, np.flatnonzero(known.unlike(test) & ~of_group), tuple(left_out)))
    return found


def with_labels(
    fold: Fold, table: OutcomeTable, trials: Iterable[Trial], labels: int, seed: int
) -> Fold:
    """The fold with `labels` rows of each scored source to learn from, drawn by seed among those
    that all models of its pool answered; all of these where there are fewer. Other sources stay
    whole.

    Raises DataError where no scored source has as many: nothing would be left out.
    """
    sources = np.array(table.sources)
    train, most = fold.train, 0
    for trial in trials:
        order = np.random.default_rng(seed).permutation(trial.rows)
        able = order[np.isin(order, fold.train)]
        most = max(most, len(able))
        others = train[sources[train] != trial.source]
        train = np.sort(np.concatenate((others, able[:labels])))
    if most < labels:
        raise DataError(
            f"{labels} labels were asked for, but with a fold left out no scored source has more "
            f"than {most} to learn from"
        )
    return replace(fold, train=train)


def places(trial: Trial, rows: Rows) -> tuple[Rows, Rows]:
    """Which of these rows of the table a trial has, and where in it they are."""
    mine = np.intersect1d(rows, trial.rows)
    return mine, np.searchsorted(trial.rows, mine)


def all_rows(trials: Sequence[Trial]) -> Rows:
    """Rows of the table that any trial scores."""
    return np.unique(np.concatenate([trial.rows for trial in trials]))
