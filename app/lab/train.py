"""Trains a router: outcome files in, a directory out that serving opens.

A share of the questions is sealed: its rows are never fitted on, so that figures measured on them
are honest. The directory is written beside its place and moved there when it is complete.
"""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from app.errors import DataError
from app.lab.fingerprints import prompt_fingerprints, question_fingerprints
from app.lab.fit import (
    FitSettings,
    FittedLengths,
    FittedTable,
    Vectors,
    fit_heads,
    fit_lengths,
    fit_table,
    quantise_scores,
)
from app.lab.outcomes import SPLIT_SALT, OutcomeTable
from app.lab.stacking import fit_weights, fold_of, novelty_scale, out_of_fold
from app.routing.artifact import (
    FORMAT,
    IDS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
    PROMPTS_FILE,
    QUESTIONS_FILE,
    VERSION,
)
from app.routing.estimators.blend import BlendWeights
from app.routing.estimators.knn import KnnSettings
from app.routing.estimators.lengths import encode_tokens
from app.routing.estimators.novelty import NoveltyScale
from app.routing.index import IndexSettings, build_index, write_index

FEWEST_ROWS = 20
FOLDS = 5


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`test_share` of all questions is kept out of everything fitted."""

    seed: int = 0
    test_share: float = 0.15
    fit: FitSettings = field(default_factory=FitSettings)
    knn: KnnSettings = field(default_factory=KnnSettings)


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """Everything a router directory holds, before it is written."""

    table: OutcomeTable
    vectors: Vectors
    fitted: FittedTable
    heads: NDArray[np.float16]
    lengths: FittedLengths
    weights: BlendWeights
    novelty: NoveltyScale
    index: IndexSettings
    settings: TrainSettings


def train(
    table: OutcomeTable,
    vectors: Vectors,
    settings: TrainSettings,
    advance: Callable[[int], None] | None = None,
) -> TrainedRouter:
    """Fits a router on all rows given; the caller has set the test rows aside. `advance` counts
    rows cross-fitted.
    """
    if len(table) < FEWEST_ROWS:
        raise DataError(f"{len(table)} rows to train on; at least {FEWEST_ROWS} are needed")
    if np.nanmin(table.scores) == np.nanmax(table.scores):
        raise DataError("field score: all scores are equal, so there is nothing to learn")
    with one_thread():
        folds = fold_of(table.prompts, FOLDS, settings.seed)
        parts = out_of_fold(
            vectors, table.scores, folds, settings.fit, settings.knn, settings.seed, advance
        )
        fitted = fit_table(vectors, table.scores, settings.fit, settings.seed)
        return TrainedRouter(
            table=table,
            vectors=vectors,
            fitted=fitted,
            heads=fit_heads(vectors, table.scores, fitted, settings.fit),
            lengths=fit_lengths(table.output_tokens, fitted.row_clusters, len(fitted.table.ease)),
            weights=fit_weights(parts, table.scores),
            novelty=novelty_scale(parts),
            index=IndexSettings.for_size(len(table)),
            settings=settings,
        )


def write_router(
    router: TrainedRouter, out: Path, encoder: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the directory, whole or not at all, and returns its manifest."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        staged = Path(scratch) / "router"
        staged.mkdir()
        tasks = sorted(set(router.table.tasks))
        _write_files(router, staged, tasks)
        manifest = _manifest(router, staged, tasks, encoder, provenance)
        content = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        (staged / MANIFEST_FILE).write_bytes(content + b"\n")
        staged.chmod(0o755)
        if out.exists():
            out.rename(Path(scratch) / "previous")
        staged.rename(out)
    return manifest


class one_thread:  # noqa: N801 - reads as a statement
    """Limits FAISS and BLAS to one thread: sums in another order would change the last digits, and
    so the bytes.
    """

    def __enter__(self) -> None:
        self._threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        self._limits = threadpool_limits(limits=1)

    def __exit__(self, *_: object) -> None:
        self._limits.restore_original_limits()
        faiss.omp_set_num_threads(self._threads)


def _write_files(router: TrainedRouter, staged: Path, tasks: Sequence[str]) -> None:
    table = router.fitted.table
    codes = {task: code for code, task in enumerate(tasks)}
    arrays: dict[str, NDArray[Any]] = {
        "scores": np.asfortranarray(quantise_scores(router.table.scores)),
        "tokens": np.asfortranarray(encode_tokens(router.table.output_tokens)),
        "task_codes": np.array([codes[task] for task in router.table.tasks], dtype=np.uint16),
        "row_clusters": router.fitted.row_clusters,
        "difficulty": router.fitted.difficulty.astype(np.float16),
        "cells": table.cells,
        "counts": table.counts,
        "ability": table.ability,
        "ease": table.ease,
        "spread": table.spread,
        "cluster_weights": table.weights,
        "heads": router.heads,
        "wordiness": router.lengths.wordiness,
        "cluster_length": router.lengths.cluster_length,
    }
    for name, array in arrays.items():
        np.save(staged / f"{name}.npy", array, allow_pickle=False)
    (staged / IDS_FILE).write_text(
        "".join(f"{row_id}\n" for row_id in router.table.ids), encoding="utf-8"
    )
    # What was trained on, without its text: so that a later evaluation can leave it out.
    prompts = router.table.prompts
    np.save(staged / PROMPTS_FILE, np.unique(prompt_fingerprints(prompts)), allow_pickle=False)
    np.save(staged / QUESTIONS_FILE, np.unique(question_fingerprints(prompts)), allow_pickle=False)
    with one_thread():
        write_index(build_index(router.vectors, router.index), staged / INDEX_FILE)


def _manifest(
    router: TrainedRouter,
    staged: Path,
    tasks: Sequence[str],
    encoder: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "estimator": "blend",
        "encoder": dict(encoder),
        "index": asdict(router.index),
        "rows": len(router.table),
        "rows_by_source": dict(sorted(Counter(router.table.sources).items())),
        "models": list(router.table.models),
        "tasks": list(tasks),
        "settings": {
            "seed": router.settings.seed,
            "folds": FOLDS,
            "fit": asdict(router.settings.fit),
        },
        "split": {
            "test_share": router.settings.test_share,
            "by": "hash of the normalised question, without its options, over all files together",
            "salt": SPLIT_SALT.decode(),
        },
        "fitted": {
            "knn": asdict(router.settings.knn),
            "blend": asdict(router.weights),
            "novelty": asdict(router.novelty),
            "overall_length": _finite(router.lengths.overall),
        },
        "made_with": {
            name: importlib.metadata.version(name)
            for name in ("faiss-cpu", "numpy", "onnxruntime", "tokenizers")
        }
        | {"python": platform.python_version()},
        "provenance": dict(provenance),
        "files": {
            path.name: {
                "bytes": path.stat().st_size,
                "sha256": sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(staged.iterdir())
        },
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
