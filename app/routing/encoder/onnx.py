"""The default encoder: a small transformer as an ONNX file, run by onnxruntime on one thread.

No torch and no download: the directory holds the graph (pooling and normalising inside), the
tokenizer and a manifest. Texts are encoded one at a time, because int8 activations share one scale
per tensor: in a batch, a text's vector would depend on its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.errors import ArtifactError

FORMAT = "pointsman-encoder"
VERSION = 1
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"

CHARACTERS_PER_TOKEN = 12
"""More than any real text needs; longer inputs lose their middle before the tokenizer spends time
on it.
"""


class OnnxEncoder:
    """Loads an encoder directory as `pointsman encoder export` writes it.

    Raises ArtifactError if a file is missing, truncated or altered.
    """

    def __init__(self, directory: Path) -> None:
        manifest = read_manifest(directory)
        self.dimensions: int = manifest["dimensions"]
        self.max_tokens: int = manifest["max_tokens"]
        self._tail = int(manifest["tail_tokens"])
        model = _read(directory / MODEL_FILE)
        tokenizer = _read(directory / TOKENIZER_FILE)
        self.fingerprint = fingerprint(model, tokenizer, self.max_tokens, self._tail)
        if self.fingerprint != manifest["fingerprint"]:
            raise ArtifactError(
                f"encoder {directory}: files do not match the manifest (fingerprint "
                f"{self.fingerprint}, manifest says {manifest['fingerprint']}); export it again"
            )
        self._session = _open_session(directory, model)
        self._input: str = self._session.get_inputs()[0].name
        self._tokenizer = _open_tokenizer(directory, tokenizer)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = np.asarray([self.token_ids(text)], dtype=np.int64)
            vectors[row] = self._session.run(None, {self._input: ids})[0][0]
        return vectors

    def token_ids(self, text: str) -> list[int]:
        """Token ids with the special tokens; of a long text, its head and its tail."""
        limit = self.max_tokens * CHARACTERS_PER_TOKEN
        if len(text) > 2 * limit:
            text = text[:limit] + " " + text[-limit:]
        # JSON can carry half a surrogate pair; the tokenizer can't.
        text = text.encode("utf-8", "replace").decode()
        return window(self._tokenizer.encode(text).ids, self.max_tokens, self._tail)


def window(ids: list[int], max_tokens: int, tail_tokens: int) -> list[int]:
    """Ids as they are, or of a longer text head and tail, its two special tokens kept."""
    if len(ids) <= max_tokens:
        return ids
    tail = ids[-1 - tail_tokens : -1] if tail_tokens else []
    return [*ids[: max_tokens - 1 - tail_tokens], *tail, ids[-1]]


def fingerprint(model: bytes, tokenizer: bytes, max_tokens: int, tail_tokens: int) -> str:
    """Sixteen hex digits over everything that can change a vector."""
    digest = hashlib.sha256()
    for part in (model, tokenizer):
        digest.update(hashlib.sha256(part).digest())
    digest.update(f"{max_tokens}/{tail_tokens}".encode())
    return digest.hexdigest()[:16]


def read_manifest(directory: Path) -> dict[str, Any]:
    """The encoder's manifest, checked for format and version."""
    try:
        manifest = orjson.loads(_read(directory / MANIFEST_FILE))
    except orjson.JSONDecodeError as error:
        raise ArtifactError(f"encoder {directory}: {MANIFEST_FILE} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"encoder {directory}: {MANIFEST_FILE} does not describe an encoder")
    if manifest.get("version") != VERSION:
        raise ArtifactError(
            f"encoder {directory}: version {manifest.get('version')} of the format, "
            f"this release reads {VERSION}; export it again"
        )
    missing = {"dimensions", "max_tokens", "tail_tokens", "fingerprint"} - manifest.keys()
    if missing:
        raise ArtifactError(
            f"encoder {directory}: {MANIFEST_FILE} lacks {', '.join(sorted(missing))}"
        )
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"encoder {path.parent}: cannot read {path.name}: {error.strerror or error}; "
            "make it with `pointsman encoder export`"
        ) from error


def _open_session(directory: Path, model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Prompts differ in length, so a remembered memory pattern never fits. The arena pays (6 %), and
    # can't grow far: inputs are cut at a few hundred tokens.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            # The fused kernel is single-threaded scalar code: 0.2 ms a layer where
            # LayerNormalization takes 0.02.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:
        raise ArtifactError(
            f"encoder {directory}: onnxruntime cannot load {MODEL_FILE}: {error}"
        ) from error


def _open_tokenizer(directory: Path, content: bytes) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:
        raise ArtifactError(
            f"encoder {directory}: cannot read {TOKENIZER_FILE}: {error}"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
