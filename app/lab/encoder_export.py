"""Makes the encoder that serving uses: a sentence-transformers model as one int8 ONNX file.

Pooling and normalising are inside the graph, so that serving needs no code of the model's own. The
same source and library versions give the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from app.errors import ArtifactError
from app.routing.encoder.onnx import (
    FORMAT,
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    VERSION,
    fingerprint,
)
from app.routing.encoder.sentence_transformers import load_model

OPSET = 20
LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "sentence-transformers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What may differ between two exports of one model."""

    max_tokens: int = 256
    tail_tokens: int = 64
    int8: bool = True
    licence: str = "Apache-2.0"


def export_encoder(source: str, out: Path, settings: ExportSettings) -> dict[str, Any]:
    """Writes the encoder directory of a model by name, whole or not at all, and returns its
    manifest.
    """
    command = (
        f"pointsman encoder export --source {source} --out DIR"
        f" --max-tokens {settings.max_tokens} --tail-tokens {settings.tail_tokens}"
        + ("" if settings.int8 else " --fp32")
    )
    return write_encoder(load_model(source), out, settings, source=source, command=command)


def write_encoder(
    model: Any,
    out: Path,
    settings: ExportSettings,
    *,
    source: str,
    command: str,
    entries: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Writes the directory of a sentence-transformers model, whole or not at all, and returns its
    manifest. `entries` and `files` are put beside what every encoder has.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        staged = Path(scratch) / "encoder"
        staged.mkdir()
        graph = Path(scratch) / "fp32.onnx"
        _export_graph(model, graph, settings.max_tokens)
        if settings.int8:
            _quantise(graph, staged / MODEL_FILE)
        else:
            shutil.copy(graph, staged / MODEL_FILE)
        model.tokenizer.backend_tokenizer.no_truncation()
        model.tokenizer.backend_tokenizer.no_padding()
        model.tokenizer.backend_tokenizer.save(str(staged / TOKENIZER_FILE), pretty=False)
        for name, content in (files or {}).items():
            (staged / name).write_bytes(content)
        manifest = _manifest(model, staged, settings, source, command) | dict(entries or {})
        content = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        (staged / MANIFEST_FILE).write_bytes(content + b"\n")
        if out.exists():
            out.rename(Path(scratch) / "previous")
        staged.rename(out)
    return manifest


def _export_graph(model: Any, path: Path, max_tokens: int) -> None:
    import torch

    transformer, mean = _parts(model)

    class Embed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any) -> Any:
            # One unpadded text a call: every token counts, so there is no mask to carry.
            hidden = self.transformer(input_ids=input_ids, attention_mask=None).last_hidden_state
            pooled = hidden.mean(1) if mean else hidden[:, 0]
            return torch.nn.functional.normalize(pooled, dim=-1)

    tokens = torch.export.Dim("tokens", min=2, max=max_tokens)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Embed().eval(),
            (torch.arange(1, 18, dtype=torch.int64).reshape(1, -1),),
            None,
            input_names=["input_ids"],
            # Not "embedding": quantising would give that name to the word table.
            output_names=["sentence_embedding"],
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes={"input_ids": {1: tokens}},
            verbose=False,
        )
    if program is None:
        raise ArtifactError("the exporter returned no graph")
    program.save(str(path))
    _strip(path)


def _strip(path: Path) -> None:
    """Removes the exporter's notes, which hold stack traces with the paths of this machine."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.value_info,
        *graph.input,
        *graph.output,
    ):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model, path)


def _parts(model: Any) -> tuple[Any, bool]:
    """The transformer, and True for mean pooling or False for the first token's vector."""
    modules = list(model)
    mode = getattr(modules[1], "pooling_mode", None) if len(modules) > 1 else None
    if mode not in ("mean", "cls"):
        raise ArtifactError(
            "only a transformer with mean or cls pooling can be exported; "
            f"this one has {mode or 'none'}"
        )
    extra = [
        type(module).__name__ for module in modules[2:] if type(module).__name__ != "Normalize"
    ]
    if extra:
        raise ArtifactError(f"layers after pooling cannot be exported: {', '.join(extra)}")
    transformer = modules[0].auto_model
    transformer.set_attn_implementation("eager")
    return transformer, mode == "mean"


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        # One scale a channel: with one a tensor, the mean cosine with the original falls from .99
        # to .95.
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Seven bits: without VNNI, eight overflow the 16-bit sums of AVX2 and vectors differ
        # between machines.
        reduce_range=True,
        extra_options={"MatMulConstBOnly": True},
    )


def _manifest(
    model: Any, staged: Path, settings: ExportSettings, source: str, command: str
) -> dict[str, Any]:
    contents = {path.name: path.read_bytes() for path in sorted(staged.iterdir())}
    return {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint(
            contents[MODEL_FILE],
            contents[TOKENIZER_FILE],
            settings.max_tokens,
            settings.tail_tokens,
        ),
        "dimensions": int(model.get_embedding_dimension()),
        "max_tokens": settings.max_tokens,
        "tail_tokens": settings.tail_tokens,
        "source": source,
        "licence": settings.licence,
        "method": "dynamic int8 weights, per channel, reduced range; one text at a time"
        if settings.int8
        else "fp32; one text at a time",
        "command": command,
        "made_with": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "files": {
            name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
