"""Compares an exported encoder with its original: do the vectors agree, and does routing notice?

Routing is what counts: the same cross-fitted smoothed kNN is trained on both sets of vectors and
scored on the same prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from app.errors import DataError
from app.lab.fit import FitSettings, Vectors
from app.lab.ground import fit_ground, log_odds_terms
from app.lab.methods.smoothed import fit_weights
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeTable
from app.lab.train import one_thread
from app.routing.encoder.base import Encoder
from app.routing.encoder.onnx import OnnxEncoder
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.knn import KnnSettings


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosines between the two encoders' vectors, routing quality with each, and speed.

    Cosines are over the `whole_prompts` that fit: of longer ones the original reads the head only,
    the exported encoder head and tail, so their vectors are meant to differ.
    """

    prompts: int
    whole_prompts: int
    mean_cosine: float
    lowest_cosine: float
    apgr_original: float
    apgr_exported: float
    milliseconds_original: float
    milliseconds_exported: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def compare(
    original: Encoder,
    exported: OnnxEncoder,
    table: OutcomeTable,
    strong: str,
    weak: str,
    advance: Callable[[int], None] | None = None,
) -> Agreement:
    """Encodes every prompt of the table twice. Raises DataError if the pair is not in it."""
    missing = [name for name in (strong, weak) if name not in table.columns]
    if missing:
        raise DataError(
            f"no outcomes of: {', '.join(missing)}; the table has {', '.join(table.models)}"
        )
    vectors_original, seconds_original = _encode(original, table, advance)
    vectors_exported, seconds_exported = _encode(exported, table, advance)
    whole = np.array([len(exported.token_ids(p)) < exported.max_tokens for p in table.prompts])
    if not whole.any():
        raise DataError("every prompt is longer than the encoder reads; nothing can be compared")
    cosines = np.einsum("nd,nd->n", vectors_original[whole], vectors_exported[whole])
    with one_thread():
        return Agreement(
            prompts=len(table),
            whole_prompts=int(whole.sum()),
            mean_cosine=float(cosines.mean()),
            lowest_cosine=float(cosines.min()),
            apgr_original=_apgr(vectors_original, table, strong, weak),
            apgr_exported=_apgr(vectors_exported, table, strong, weak),
            milliseconds_original=1e3 * seconds_original / len(table),
            milliseconds_exported=1e3 * seconds_exported / len(table),
        )


def _encode(
    encoder: Encoder, table: OutcomeTable, advance: Callable[[int], None] | None
) -> tuple[Vectors, float]:
    vectors = np.empty((len(table), encoder.dimensions), dtype=np.float32)
    started = time.perf_counter()
    for row, prompt in enumerate(table.prompts):
        vectors[row] = encoder.encode([prompt])[0]
        if advance is not None:
            advance(1)
    return vectors, time.perf_counter() - started


def _apgr(vectors: Vectors, table: OutcomeTable, strong: str, weak: str) -> float:
    ground = fit_ground(table, vectors, FitSettings(), KnnSettings(), seed=0)
    terms = log_odds_terms(ground.unseen)
    weights = fit_weights(terms, table.scores, table.relative)
    quality = sigmoid(sum((w * term for w, term in zip(weights, terms, strict=True)), np.zeros(1)))
    high, low = table.columns[strong], table.columns[weak]
    both = ~np.isnan(table.scores[:, high]) & ~np.isnan(table.scores[:, low])
    gain: Array = (quality[:, high] - quality[:, low])[both]
    weak_scores = table.scores[both, low].astype(np.float64)
    strong_scores = table.scores[both, high].astype(np.float64)
    return exact_curve(gain, weak_scores, strong_scores).apgr()
