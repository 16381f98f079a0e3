"""Takes the heads of a tuned encoder into a router, calibrated on what tuning has not seen.

Tuning leaves out a share of the questions, by the same rule as training. Where it left out more
than training does (`pointsman encoder tune --test-share 0.3`), the rows between are new to the
heads, and each model's log-odds are fitted to them by Platt scaling (1999): a slope and a shift,
held to 1 and 0. On rows that the heads were trained on they look better than they are, so without
others they are left as they are, and the settings say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ArtifactError, DataError
from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.platt import Held, fit_platt
from app.lab.outcomes import split_position
from app.routing.encoder.onnx import read_manifest
from app.routing.estimators.classifier import TunedHeads, read_heads

AS_THEY_ARE = Held(slope=1.0, shift=0.0, precisions=(4.0, 1.0))
"""A model with few rows keeps its heads as they are."""


def fit_tuned(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """Raises DataError without an encoder or a model that its heads know, ArtifactError where it
    has no heads.
    """
    if ground.encoder is None:
        raise DataError(
            "the classifier is the heads of a tuned encoder; name one with --encoder, made by "
            "`pointsman encoder tune --objective classifier`"
        )
    heads = read_heads(ground.encoder)
    weights = _of_models(heads, ground)
    rows = _unseen_by_tuning(ground, ground.encoder)
    weights, calibrated = _calibrate(weights, ground, rows)
    arrays = {"heads": weights}
    if (pair := _pair(heads, ground)) is not None and heads.pair is not None:
        arrays["pair"] = heads.pair.weights
    settings = {"pair": pair, "calibration_rows": len(rows), "calibrated_models": calibrated}
    return FittedMethod("classifier", arrays=arrays, settings=settings)


def _of_models(heads: TunedHeads, ground: Ground) -> NDArray[np.float32]:
    """(dimensions + 1, models) of the router; nan for models that the heads do not know."""
    weights, models = heads.quality.weights, ground.table.models
    if len(weights) - 1 != ground.vectors.shape[1]:
        raise ArtifactError(
            f"encoder {ground.encoder}: its heads read {len(weights) - 1} dimensions, the vectors "
            f"have {ground.vectors.shape[1]}; they are another encoder's"
        )
    chosen = np.full((len(weights), len(models)), np.nan, dtype=np.float32)
    for column, name in enumerate(models):
        if name in heads.models:
            chosen[:, column] = weights[:, heads.models.index(name)]
    if np.isnan(chosen).all():
        raise DataError(
            f"encoder {ground.encoder} was tuned on outcomes of {', '.join(heads.models[:5])}, "
            "none of which is in the files; tune one on these"
        )
    return chosen


def _unseen_by_tuning(ground: Ground, encoder: Path) -> NDArray[np.intp]:
    """Rows of scores whose questions tuning kept out."""
    share = read_manifest(encoder).get("tuning", {}).get("test_share", 0.0)
    positions = np.array([split_position(prompt) for prompt in ground.table.prompts])
    return np.flatnonzero((positions < share) & ~ground.table.relative)


def _calibrate(
    weights: NDArray[np.float32], ground: Ground, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], int]:
    """The heads after scaling, and of how many models."""
    log_odds = (ground.vectors[rows] @ weights[:-1] + weights[-1]).astype(np.float64)
    scores = ground.table.scores[rows].astype(np.float64)
    scaled, calibrated = weights.copy(), 0
    for column in np.flatnonzero(~np.isnan(weights[0])):
        known = ~np.isnan(scores[:, column])
        if known.any():
            slope, shift = fit_platt(log_odds[known, column], scores[known, column], AS_THEY_ARE)
            scaled[:, column] *= slope
            scaled[-1, column] += shift
            calibrated += 1
    return scaled, calibrated


def _pair(heads: TunedHeads, ground: Ground) -> dict[str, Any] | None:
    """What the manifest says of the pair; None without one, or without rows that have both."""
    columns = ground.table.columns
    if heads.strong is None or heads.weak is None or heads.pair is None:
        return None
    if heads.strong not in columns or heads.weak not in columns:
        return None
    scores = ground.table.scores
    gain = scores[:, columns[heads.strong]] - scores[:, columns[heads.weak]]
    gain = gain[~np.isnan(gain)].astype(np.float64)
    if not (gain > 0).any():
        return None
    return {
        "strong": heads.strong,
        "weak": heads.weak,
        "won": round(float(gain[gain > 0].mean()), 6),
        "lost": round(float(np.maximum(-gain, 0.0).mean()), 6),
    }
