"""What tuning did to prompts it did not see: a small figure, printed at the end of a run.

It tells a run that learned from one that memorised. Whether routing gains is another question,
which `python -m benchmarks.encoders` answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.outcomes import OutcomeTable
from app.lab.tuning.classifier import TunedClassifier
from app.lab.tuning.contrastive import UNLABELLED, TunedEncoder, labels_for
from app.lab.tuning.settings import TuneSettings
from app.lab.tuning.torch_steps import encode, repeatable
from app.routing.encoder.sentence_transformers import load_model

MOST_ROWS = 400


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`before` and `after` tuning, over `rows` prompts: the `figure` says of what."""

    figure: str
    rows: int
    before: float
    after: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def held_out(
    tuned: TunedClassifier | TunedEncoder,
    train: OutcomeTable,
    test: OutcomeTable,
    settings: TuneSettings,
) -> HeldOut | None:
    """The figure of the objective on at most 400 test rows; None where there are no test rows.

    Of a classifier, the mean squared error of its predictions (Brier), before which is that of each
    model's mean in training. Of contrastive tuning, how much more similar two prompts of one label
    are than two of different ones; None where the test rows have one label only.
    """
    if not len(test):
        return None
    order = np.random.default_rng(settings.seed).permutation(len(test))[:MOST_ROWS]
    test = test.take(np.sort(order))
    with repeatable(settings):
        if isinstance(tuned, TunedClassifier):
            return _brier(tuned, train, test, settings)
        return _separation(tuned, test, settings)


def separation(vectors: NDArray[np.float32], labels: NDArray[np.intp]) -> float:
    """Mean cosine of two rows with one label, less that of two with different labels."""
    similarity = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    other = ~same
    np.fill_diagonal(same, False)
    return float(similarity[same].mean() - similarity[other].mean())


def _brier(
    tuned: TunedClassifier, train: OutcomeTable, test: OutcomeTable, settings: TuneSettings
) -> HeldOut:
    vectors = encode(tuned.model, test.prompts, settings)
    quality = tuned.heads.quality.quality(vectors)
    means = np.nanmean(train.scores, axis=0)
    return HeldOut(
        figure="Brier",
        rows=len(test),
        before=float(np.nanmean((test.scores - means) ** 2)),
        after=float(np.nanmean((test.scores - quality) ** 2)),
    )


def _separation(tuned: TunedEncoder, test: OutcomeTable, settings: TuneSettings) -> HeldOut | None:
    try:
        labels = labels_for(test, settings)
    except DataError:
        return None
    rows = np.flatnonzero(labels != UNLABELLED)
    prompts = test.take(rows).prompts
    before, after = (
        separation(encode(model, prompts, settings), labels[rows])
        for model in (load_model(settings.source), tuned.model)
    )
    return HeldOut("separation", len(rows), before, after)
