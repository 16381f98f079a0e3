"""Contrastive tuning of the encoder, as in OrchestraLLM: prompts with one label move together,
prompts with another move apart.

Task-aware tuning takes the task's name as the label. Expert-aware tuning takes the pool that the
outcomes of a strong and a weak model put a prompt into. Triplets are formed in the batch, with
semi-hard negatives: the nearest one that is farther than the positive. The very hardest would be
chosen by luck, because a single outcome is a noisy label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.outcomes import OutcomeTable
from app.lab.tuning.settings import TuneSettings, sample
from app.lab.tuning.torch_steps import Texts, repeatable, run_steps
from app.routing.encoder.sentence_transformers import load_model

RIGHT = 0.5
"""A score of at least this counts as a right answer."""

UNLABELLED = -1
LABELS_A_BATCH = 8
WEAK_POOL, STRONG_POOL = 0, 1


@dataclass(frozen=True, slots=True)
class TunedEncoder:
    """A tuned model; `losses` by step, `rows` it was tuned on."""

    model: Any
    rows: int
    losses: tuple[float, ...]


def task_labels(table: OutcomeTable) -> NDArray[np.intp]:
    """A number for each row's task; UNLABELLED where no other row has it. DataError if fewer than
    two tasks are left.
    """
    _, labels, counts = np.unique(table.tasks, return_inverse=True, return_counts=True)
    labels = np.where(counts[labels] > 1, labels, UNLABELLED)
    found = np.unique(labels[labels != UNLABELLED])
    if len(found) < 2:
        raise DataError(
            f"field task: {len(found)} task with two prompts or more, and task-aware tuning needs "
            "two; try --objective expert"
        )
    return labels.astype(np.intp)


def expert_labels(table: OutcomeTable, strong: int, weak: int) -> NDArray[np.intp]:
    """OrchestraLLM's pools: a prompt goes to the weak model's pool where that one is right, to the
    strong one's where only that is, and to none where both are wrong or one is unknown. DataError
    if all are in one pool.
    """
    scores = table.scores[:, [strong, weak]]
    strong_right, weak_right = (scores >= RIGHT).T
    labels = np.full(len(table), UNLABELLED, dtype=np.intp)
    labels[strong_right] = STRONG_POOL
    labels[weak_right] = WEAK_POOL
    labels[np.isnan(scores).any(axis=1)] = UNLABELLED
    names = {WEAK_POOL: table.models[weak], STRONG_POOL: table.models[strong]}
    for pool, name in names.items():
        if (labels == pool).sum() < 2:
            raise DataError(
                f"field score: {int((labels == pool).sum())} prompts in the pool of {name}; both "
                "pools need two or more. Give another pair, or more rows"
            )
    return labels


def labels_for(table: OutcomeTable, settings: TuneSettings) -> NDArray[np.intp]:
    """Labels of the settings' contrastive objective, by row."""
    if settings.objective == "task":
        return task_labels(table)
    pair = settings.pair_columns(table)
    if pair is None:
        raise DataError("expert-aware tuning needs a pair: give --strong and --weak")
    return expert_labels(table, *pair)


def tune_contrastive(
    table: OutcomeTable, settings: TuneSettings, advance: Callable[[int], None] | None = None
) -> TunedEncoder:
    """Tunes on all rows given; the caller has set the test rows aside. `advance` counts steps.

    DataError where rows are too few or all have one label; ArtifactError where torch or the model
    is missing.
    """
    labels = labels_for(table, settings)
    rows = sample(np.flatnonzero(labels != UNLABELLED), settings)
    labels = labels_for(table.take(rows), settings)
    model = load_model(settings.source)
    with repeatable(settings):
        losses = _tune(model, table.take(rows), labels, settings, advance)
    return TunedEncoder(model, len(rows), losses)


def steps_of(table: OutcomeTable, settings: TuneSettings) -> int:
    """How many steps tuning on this table takes."""
    labels = labels_for(table, settings)
    return settings.steps_for(len(sample(np.flatnonzero(labels != UNLABELLED), settings)))


def balanced_batches(
    labels: NDArray[np.intp], size: int, steps: int, seed: int
) -> Iterator[NDArray[np.intp]]:
    """Batches with several rows of several labels, so that each row has positives and negatives.

    Rows of a label come round in a random order of their own; labels are drawn by their number of
    rows. So an epoch shows nearly every row once.
    """
    rng = np.random.default_rng(seed)
    found, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    chosen = min(len(found), LABELS_A_BATCH, max(2, size // 2))
    rounds = {int(label): _Round(np.flatnonzero(labels == label), rng) for label in found}
    for _ in range(steps):
        drawn = rng.choice(found, chosen, replace=False, p=counts / counts.sum())
        yield np.concatenate([rounds[int(label)].take(max(2, size // chosen)) for label in drawn])


class _Round:
    """Rows of one label, dealt out without repeats until too few are left for a batch."""

    def __init__(self, rows: NDArray[np.intp], rng: np.random.Generator) -> None:
        self._rows = rows
        self._rng = rng
        self._left = np.empty(0, dtype=np.intp)

    def take(self, count: int) -> NDArray[np.intp]:
        count = min(count, len(self._rows))
        if len(self._left) < count:
            self._left = self._rng.permutation(self._rows)
        dealt, self._left = self._left[:count], self._left[count:]
        return dealt


def _tune(
    model: Any,
    table: OutcomeTable,
    labels: NDArray[np.intp],
    settings: TuneSettings,
    advance: Callable[[int], None] | None,
) -> tuple[float, ...]:
    import torch
    from sentence_transformers.sentence_transformer.losses import (
        BatchHardTripletLossDistanceFunction,
        BatchSemiHardTripletLoss,
    )

    triplets = BatchSemiHardTripletLoss(
        model, BatchHardTripletLossDistanceFunction.cosine_distance, settings.margin
    )
    texts = Texts(model, table.prompts, settings)
    steps = settings.steps_for(len(table))
    model.train()
    losses = run_steps(
        [{"params": list(model.parameters()), "lr": settings.learning_rate}],
        balanced_batches(labels, settings.batch_size, steps, settings.seed),
        lambda rows: triplets([texts.features(rows)], torch.from_numpy(labels[rows])),
        steps,
        settings,
        advance,
    )
    model.eval()
    return losses
