"""RouteLLM's BERT classifier, for any number of models: encoder and heads trained in one piece.

Every model has a head whose sigmoid is the probability of a good answer; missing cells are masked.
Beside the error of each prediction, the loss has that of the differences between models of one
row, the gain, because differences are what routing decides by. With a pair named, there is
RouteLLM's own head too: win, tie or loss of the strong model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.outcomes import OutcomeTable
from app.lab.tuning.settings import TuneSettings, sample
from app.lab.tuning.torch_steps import (
    Texts,
    batches_of_like_length,
    embed,
    repeatable,
    run_steps,
)
from app.routing.encoder.sentence_transformers import load_model
from app.routing.estimators.classifier import (
    LOSS,
    TIE,
    WIN,
    ClassifierHeads,
    PairHead,
    TunedHeads,
)

UNKNOWN = -100
"""What torch's cross-entropy ignores."""


@dataclass(frozen=True, slots=True)
class TunedClassifier:
    """A tuned model and its heads; `losses` by step, `rows` it was tuned on."""

    model: Any
    heads: TunedHeads
    rows: int
    losses: tuple[float, ...]


def tune_classifier(
    table: OutcomeTable, settings: TuneSettings, advance: Callable[[int], None] | None = None
) -> TunedClassifier:
    """Tunes on all rows given; the caller has set the test rows aside. `advance` counts steps.

    DataError where rows are too few, a model has no outcomes in them or all are of one class;
    ArtifactError where torch or the model is missing.
    """
    table = table.take(sample(_scored(table), settings))
    _check(table)
    pair = settings.pair_columns(table)
    labels = None if pair is None else pair_labels(table, *pair)
    model = load_model(settings.source)
    with repeatable(settings):
        weights, pair_weights, losses = _tune(model, table, labels, settings, advance)
    heads = TunedHeads(
        models=table.models,
        quality=ClassifierHeads(weights),
        strong=table.models[pair[0]] if pair else None,
        weak=table.models[pair[1]] if pair else None,
        pair=None if pair_weights is None else PairHead(pair_weights),
    )
    return TunedClassifier(model, heads, len(table), losses)


def steps_of(table: OutcomeTable, settings: TuneSettings) -> int:
    """How many steps tuning on this table takes."""
    return settings.steps_for(len(sample(_scored(table), settings)))


def pair_labels(table: OutcomeTable, strong: int, weak: int) -> NDArray[np.int64]:
    """WIN, TIE or LOSS of the strong model by row, UNKNOWN where a score is missing. DataError if
    all rows have one label.
    """
    gain = table.scores[:, strong] - table.scores[:, weak]
    labels = np.select([gain > 0, gain < 0, gain == 0], [WIN, LOSS, TIE], UNKNOWN)
    if len(np.unique(labels[labels != UNKNOWN])) < 2:
        raise DataError(
            f"field score: {table.models[strong]} against {table.models[weak]} always ends the "
            "same way or is never scored, so there is nothing to learn; give another pair"
        )
    return labels.astype(np.int64)


def quality_loss(logits: Any, scores: Any) -> Any:
    """Cross-entropy of the known scores, plus the squared error of the differences between models
    of one row. Every row counts once, however many models answered it; (rows, models), nan unknown.
    """
    import torch

    known = ~torch.isnan(scores)
    target = torch.nan_to_num(scores)
    share = known / known.sum(dim=1, keepdim=True).clamp(min=1)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target, reduction="none"
    )
    error = torch.where(known, target - torch.sigmoid(logits), 0.0)
    centred = error - (share * error).sum(dim=1, keepdim=True)
    return (share * (cross_entropy + centred * centred)).sum(dim=1).mean()


def _scored(table: OutcomeTable) -> NDArray[np.intp]:
    return np.flatnonzero(~np.isnan(table.scores).all(axis=1))


def _check(table: OutcomeTable) -> None:
    unscored = [
        name for name, column in table.columns.items() if np.isnan(table.scores[:, column]).all()
    ]
    if unscored:
        raise DataError(
            f"no outcomes of {', '.join(unscored)} in the rows to tune on; leave them out with "
            "--models, or take more rows"
        )
    if np.nanmin(table.scores) == np.nanmax(table.scores):
        raise DataError("field score: all scores are equal, so there is nothing to learn")


def _tune(
    model: Any,
    table: OutcomeTable,
    labels: NDArray[np.int64] | None,
    settings: TuneSettings,
    advance: Callable[[int], None] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, tuple[float, ...]]:
    import torch

    dimensions = int(model.get_embedding_dimension())
    heads = _head(dimensions, _base_log_odds(table.scores))
    shares = None if labels is None else _label_log_shares(labels)
    pair_head = None if shares is None else _head(dimensions, shares)
    scores = torch.from_numpy(table.scores)
    texts = Texts(model, table.prompts, settings)
    steps = settings.steps_for(len(table))

    def loss_of(rows: NDArray[np.intp]) -> Any:
        vectors = embed(model, texts.features(rows))
        loss = quality_loss(vectors @ heads[:-1] + heads[-1], scores[rows])
        if labels is None or pair_head is None or (labels[rows] == UNKNOWN).all():
            return loss
        return loss + torch.nn.functional.cross_entropy(
            vectors @ pair_head[:-1] + pair_head[-1],
            torch.from_numpy(labels[rows]),
            ignore_index=UNKNOWN,
        )

    trained = [heads] if pair_head is None else [heads, pair_head]
    model.train()
    losses = run_steps(
        [
            {"params": list(model.parameters()), "lr": settings.learning_rate},
            # Heads start from nothing, and read unit vectors, whose entries are small.
            {"params": trained, "lr": settings.head_learning_rate, "weight_decay": 0.0},
        ],
        batches_of_like_length(texts.lengths, settings.batch_size, steps, settings.seed),
        loss_of,
        steps,
        settings,
        advance,
    )
    model.eval()
    return _array(heads), None if pair_head is None else _array(pair_head), losses


def _head(dimensions: int, bias: NDArray[np.float32]) -> Any:
    """Zero weights, (dimensions + 1, outputs): they move the encoder only once they know more."""
    import torch

    weights = np.zeros((dimensions + 1, len(bias)), dtype=np.float32)
    weights[-1] = bias
    return torch.nn.Parameter(torch.from_numpy(weights))


def _array(head: Any) -> NDArray[np.float32]:
    return np.array(head.detach().numpy(), dtype=np.float32)


def _base_log_odds(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    known = (~np.isnan(scores)).sum(axis=0)
    rate = (np.nansum(scores, axis=0) + 1.0) / (known + 2.0)
    return np.asarray(np.log(rate / (1.0 - rate)), dtype=np.float32)


def _label_log_shares(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    counts = np.bincount(labels[labels != UNKNOWN], minlength=3) + 1.0
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)
