"""Trains the matrix factorisation by Adam, in plain numpy: it is small enough to need no torch.

Two losses, each row weighing the same in both. Of scores, the cross-entropy of every one; of pairs
of models drawn from a row, that of who did better, where one did, which is the paper's loss: it
drops ties. Rows of preferences have the second only, since a win rate has no level. As there,
vectors get noise while training. The number of epochs is chosen on a fold of questions kept out;
then all rows are trained on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.factors import Factors, unit

Floats = NDArray[np.float32]

EPOCHS = (3, 6, 12, 24)
FEWEST_STEPS = 300
"""Small tables are seen more often: Adam goes a fixed length a step."""


@dataclass(frozen=True, slots=True)
class FactorSettings:
    """`width`, `weight_decay` and `batch` are the paper's.

    `noise`, the standard deviation of what is added to each entry of a vector, is half of the
    paper's, whose vectors have four times as many entries. The learning rate is ten times as high,
    for some seconds' training.
    """

    epochs: int
    width: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    noise: float = 0.05
    batch: int = 64
    pairs: int = 8
    """Drawn from each row at each visit."""


class _Rows:
    """What a batch needs of each row: scores, and the columns that have one."""

    def __init__(self, ground: Ground, rows: NDArray[np.intp]) -> None:
        scores = ground.table.scores[rows]
        known = ~np.isnan(scores)
        scored = known.any(axis=1)
        rows, scores, known = rows[scored], scores[scored], known[scored]
        relative = ground.table.relative[rows]
        self.rows = rows
        self.vectors = ground.vectors
        self.scores = np.nan_to_num(scores).astype(np.float32)
        self.counts = known.sum(axis=1)
        self.columns = np.argsort(~known, axis=1, kind="stable")
        share = known / self.counts[:, None] * ~relative[:, None]
        self.share = share.astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def pairs(
        self, at: NDArray[np.intp], count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """`count` pairs of two different scored columns for each row, (n, count) twice; of a row
        with one score, that one twice.
        """
        counts = self.counts[at][:, None]
        first = (rng.random((len(at), count)) * counts).astype(np.intp)
        step = 1 + (rng.random((len(at), count)) * (counts - 1)).astype(np.intp)
        row = at[:, None]
        return self.columns[row, first], self.columns[row, (first + step) % counts]


def fit_factors(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """See the module."""
    inside, outside = (np.flatnonzero(side) for side in (ground.folds != 0, ground.folds == 0))
    rows = _Rows(ground, inside)
    errors = {}
    for epochs in EPOCHS:
        factors = _train(rows, FactorSettings(epochs=epochs), ground.seed)
        errors[epochs] = _error(factors, ground, outside)
    settings = FactorSettings(epochs=min(EPOCHS, key=lambda epochs: errors[epochs]))
    factors = _train(_Rows(ground, np.arange(len(ground.table))), settings, ground.seed)
    return FittedMethod(
        "matrix-factorization",
        arrays={name: getattr(factors, name) for name in Factors.__slots__},
        settings=asdict(settings)
        | {"tried": {str(epochs): round(error, 5) for epochs, error in errors.items()}},
    )


def _error(factors: Factors, ground: Ground, rows: NDArray[np.intp]) -> float:
    """Mean over rows of the squared error in quality and, within a row, in the differences between
    models, as for the smoothed kNN; of rows of preferences the second only.
    """
    scores = ground.table.scores[rows]
    heads = factors.heads()
    quality = sigmoid((ground.vectors[rows] @ heads[:-1] + heads[-1]).astype(np.float64))
    known = ~np.isnan(scores)
    share = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    error = np.where(known, np.nan_to_num(scores) - quality, 0.0)
    centred = error - (share * error).sum(axis=1, keepdims=True)
    level = share * error**2 * ~ground.table.relative[rows][:, None]
    return float((level + share * centred**2).sum(axis=1).mean())


def _train(rows: _Rows, settings: FactorSettings, seed: int) -> Factors:
    rng = np.random.default_rng(seed)
    weights = _first(rows, settings, rng)
    visits = _visits(rows, settings)
    batches = -(-len(rows) // settings.batch)
    adam = _Adam(weights, settings, settings.epochs * visits * batches)
    for _ in range(settings.epochs * visits):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), settings.batch):
            at = order[start : start + settings.batch]
            adam.step(weights, _gradients(weights, rows, at, settings, rng))
    return _factors(weights, rows)


def _visits(rows: _Rows, settings: FactorSettings) -> int:
    """How often an epoch sees each row."""
    return -(-FEWEST_STEPS * settings.batch // (len(rows) * settings.epochs))


def _first(rows: _Rows, settings: FactorSettings, rng: np.random.Generator) -> dict[str, Floats]:
    dimensions, models = rows.vectors.shape[1], rows.scores.shape[1]

    def drawn(*shape: int, scale: float) -> Floats:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    level = np.zeros(dimensions + 1, dtype=np.float32)
    mean = float((rows.share * rows.scores).sum() / max(float(rows.share.sum()), 1e-9))
    if rows.share.any():
        level[-1] = np.log((mean + 0.01) / (1.01 - mean))
    return {
        "models": drawn(models, settings.width, scale=1.0),
        "projection": drawn(dimensions + 1, settings.width, scale=dimensions**-0.5),
        "output": drawn(settings.width, scale=settings.width**-0.5),
        "level": level,
    }


def _gradients(
    weights: dict[str, Floats],
    rows: _Rows,
    at: NDArray[np.intp],
    settings: FactorSettings,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    inputs = np.ones((len(at), rows.vectors.shape[1] + 1), dtype=np.float32)
    inputs[:, :-1] = rows.vectors[rows.rows[at]]
    if settings.noise:
        drawn = rng.standard_normal((len(at), inputs.shape[1] - 1), dtype=np.float32)
        inputs[:, :-1] += np.float32(settings.noise) * drawn
    models = unit(weights["models"])
    outputs = models * weights["output"]
    hidden = inputs @ weights["projection"]
    delta = hidden @ outputs.T
    level = inputs @ weights["level"]
    of_scores = rows.share[at] * (_sigmoid(delta + level[:, None]) - rows.scores[at])
    of_delta = (of_scores + _of_pairs(delta, rows, at, settings, rng)) / len(at)
    of_outputs = of_delta.T @ hidden
    of_models = of_outputs * weights["output"]
    across = of_models - models * (models * of_models).sum(axis=1, keepdims=True)
    return {
        "models": across / np.linalg.norm(weights["models"], axis=1, keepdims=True),
        "projection": inputs.T @ (of_delta @ outputs),
        "output": (of_outputs * models).sum(axis=0),
        "level": inputs.T @ (of_scores.sum(axis=1) / len(at)),
    }


def _of_pairs(
    delta: Floats,
    rows: _Rows,
    at: NDArray[np.intp],
    settings: FactorSettings,
    rng: np.random.Generator,
) -> Floats:
    """Gradient by delta of -|d| log P(the better one beats the other), d being the difference of
    their scores.
    """
    first, second = rows.pairs(at, settings.pairs, rng)
    row = np.arange(len(at))[:, None]
    better = rows.scores[at[:, None], first] - rows.scores[at[:, None], second]
    chance = _sigmoid(delta[row, first] - delta[row, second])
    slope = (np.abs(better) * chance - np.maximum(better, 0.0)) / settings.pairs
    width = delta.shape[1]
    places = np.concatenate([(row * width + first).ravel(), (row * width + second).ravel()])
    summed = np.bincount(places, np.concatenate([slope.ravel(), -slope.ravel()]), delta.size)
    return summed.reshape(delta.shape).astype(np.float32)


class _Adam:
    """Adam with decoupled weight decay, its rate falling to 0 over `total` steps.

    Neither biases decay nor the models, whose length means nothing.
    """

    def __init__(self, weights: dict[str, Floats], settings: FactorSettings, total: int) -> None:
        self._settings = settings
        self._total = total
        self._mean = {name: np.zeros_like(array) for name, array in weights.items()}
        self._square = {name: np.zeros_like(array) for name, array in weights.items()}
        self._steps = 0

    def step(self, weights: dict[str, Floats], gradients: dict[str, Floats]) -> None:
        self._steps += 1
        rate = self._settings.learning_rate * (1.0 - (self._steps - 1) / self._total)
        unbiased = np.float32(np.sqrt(1.0 - 0.999**self._steps) / (1.0 - 0.9**self._steps))
        for name, gradient in gradients.items():
            mean, square = self._mean[name], self._square[name]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            weights[name] -= np.float32(rate) * unbiased * mean / (np.sqrt(square) + 1e-8)
            if name in ("projection", "level"):
                weights[name][:-1] *= np.float32(1.0 - rate * self._settings.weight_decay)


def _factors(weights: dict[str, Floats], rows: _Rows) -> Factors:
    known = np.zeros(len(weights["models"]), dtype=np.bool_)
    for count in np.unique(rows.counts):
        known[rows.columns[rows.counts == count, :count]] = True
    copied = {name: array.copy() for name, array in weights.items()}
    return Factors(**copied, known=known)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float32)
