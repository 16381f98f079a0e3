"""Quality by the heads of a tuned encoder: one matrix product on the vector it gives.

The heads were trained together with the encoder (`pointsman encoder tune`) and mean nothing on any
other one's vectors. They lie in the encoder's directory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ArtifactError
from app.routing.encoder.onnx import read_manifest
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

HEADS_FILE = "head.npz"
WIN, TIE, LOSS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class ClassifierHeads:
    """`weights` (dimensions + 1, models) in log-odds, bias last."""

    weights: NDArray[np.float32]

    def quality(self, vectors: NDArray[np.float32]) -> Array:
        """Probability of a good answer, (n, models), for vectors (n, dimensions)."""
        return sigmoid(_outputs(vectors, self.weights))

    def select(self, columns: Sequence[int]) -> ClassifierHeads:
        """The heads of these models, in this order."""
        return ClassifierHeads(np.ascontiguousarray(self.weights[:, list(columns)]))


@dataclass(frozen=True, slots=True)
class PairHead:
    """RouteLLM's three labels for one pair: `weights` (dimensions + 1, 3), bias last."""

    weights: NDArray[np.float32]

    def probabilities(self, vectors: NDArray[np.float32]) -> Array:
        """Win, tie and loss of the strong model, (n, 3), for vectors (n, dimensions)."""
        outputs = _outputs(vectors, self.weights)
        likelihood = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))

    def strong_wins(self, vectors: NDArray[np.float32]) -> Array:
        """P(strong wins) = 1 - (P(tie) + P(weak wins)), (n,)."""
        probabilities = self.probabilities(vectors)
        return np.asarray(1.0 - (probabilities[:, TIE] + probabilities[:, LOSS]))


@dataclass(frozen=True, slots=True)
class TunedHeads:
    """Heads of a tuned encoder: quality of each of `models`, and one pair's, if it was named."""

    models: tuple[str, ...]
    quality: ClassifierHeads
    strong: str | None = None
    weak: str | None = None
    pair: PairHead | None = None

    def write(self) -> tuple[bytes, dict[str, Any]]:
        """The file of weights, and what the manifest says of it."""
        arrays = {"weights": self.quality.weights}
        if self.pair is not None:
            arrays["pair_weights"] = self.pair.weights
        content = BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        entry: dict[str, Any] = {"file": HEADS_FILE, "models": list(self.models)}
        if self.pair is not None:
            entry["pair"] = {"strong": self.strong, "weak": self.weak}
        return content.getvalue(), entry


def read_heads(directory: Path) -> TunedHeads:
    """The heads in an encoder's directory. ArtifactError where there are none, or they are altered,
    or of other dimensions than the encoder.
    """
    manifest = read_manifest(directory)
    entry = manifest.get("heads")
    if entry is None:
        raise ArtifactError(
            f"encoder {directory}: it has no heads; tune it with "
            "`pointsman encoder tune --objective classifier`"
        )
    models, pair = tuple(entry["models"]), entry.get("pair")
    content = _content(directory, manifest)
    rows = manifest["dimensions"] + 1
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        weights = _array(directory, arrays, "weights", (rows, len(models)))
        pair_weights = _array(directory, arrays, "pair_weights", (rows, 3)) if pair else None
    return TunedHeads(
        models=models,
        quality=ClassifierHeads(weights),
        strong=pair["strong"] if pair else None,
        weak=pair["weak"] if pair else None,
        pair=None if pair_weights is None else PairHead(pair_weights),
    )


def _outputs(vectors: NDArray[np.float32], weights: NDArray[np.float32]) -> Array:
    return np.asarray(vectors @ weights[:-1] + weights[-1], dtype=np.float64)


def _content(directory: Path, manifest: dict[str, Any]) -> bytes:
    try:
        content = (directory / HEADS_FILE).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"encoder {directory}: cannot read {HEADS_FILE}: {error.strerror or error}; "
            "tune it again"
        ) from error
    if sha256(content).hexdigest() != manifest["files"][HEADS_FILE]["sha256"]:
        raise ArtifactError(
            f"encoder {directory}: {HEADS_FILE} does not match the manifest; tune it again"
        )
    return content


def _array(directory: Path, arrays: Any, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = arrays[name]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"encoder {directory}: {HEADS_FILE} lacks {name}: {error}") from error
    if array.shape != shape:
        raise ArtifactError(
            f"encoder {directory}: {HEADS_FILE}: {name} is {array.shape}, not {shape}"
        )
    return array
