"""Trains a router: outcome files in, a directory out that serving opens.

A share of the questions is sealed: its rows are never fitted on, so that figures measured on them
are honest. The directory is written beside its place and moved there when it is complete.
"""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from app.config.names import nearest
from app.errors import DataError
from app.lab.fingerprints import prompt_fingerprints, question_fingerprints
from app.lab.fit import FitSettings, Vectors, quantise_scores
from app.lab.ground import FOLDS, Advance, Ground, fit_ground
from app.lab.methods import FITS, FittedMethod
from app.lab.outcomes import SPLIT_SALT, OutcomeTable, Unit
from app.routing.artifact import (
    FORMAT,
    IDS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
    PROMPTS_FILE,
    QUESTIONS_FILE,
    VERSION,
    method_file,
)
from app.routing.estimators.kinds import DEFAULT_KIND
from app.routing.estimators.knn import KnnSettings
from app.routing.estimators.lengths import encode_tokens
from app.routing.index import IndexSettings, build_index, write_index

FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`test_share` of all questions is kept out of everything fitted; `estimator` is a kind.

    `encoder` is the directory of the one that makes the vectors: the kind `classifier` reads its
    heads. Cross-fitting inside leaves out what `folds_by` says.
    """

    seed: int = 0
    test_share: float = 0.15
    estimator: str = DEFAULT_KIND
    fit: FitSettings = field(default_factory=FitSettings)
    knn: KnnSettings = field(default_factory=KnnSettings)
    encoder: Path | None = None
    folds_by: Unit = "question"


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """Everything a router directory holds, before it is written."""

    ground: Ground
    method: FittedMethod
    index: IndexSettings
    settings: TrainSettings


def train(
    table: OutcomeTable,
    vectors: Vectors,
    settings: TrainSettings,
    advance: Advance | None = None,
) -> TrainedRouter:
    """Fits a router on all rows given; the caller has set the test rows aside. `advance` counts
    rows, each twice: cross-fitted for the common ground, and fitted by the kind.
    """
    return train_on(prepare(table, vectors, settings, advance), settings, advance)


def prepare(
    table: OutcomeTable,
    vectors: Vectors,
    settings: TrainSettings,
    advance: Advance | None = None,
) -> Ground:
    """The common ground of all kinds. Raises DataError where there is nothing to learn from."""
    if len(table) < FEWEST_ROWS:
        raise DataError(f"{len(table)} rows to train on; at least {FEWEST_ROWS} are needed")
    if np.nanmin(table.scores) == np.nanmax(table.scores):
        raise DataError("field score: all scores are equal, so there is nothing to learn")
    with one_thread():
        ground = fit_ground(
            table,
            vectors,
            settings.fit,
            settings.knn,
            settings.seed,
            advance,
            settings.folds_by,
        )
    return replace(ground, encoder=settings.encoder)


def train_on(
    ground: Ground, settings: TrainSettings, advance: Advance | None = None
) -> TrainedRouter:
    """A router of the settings' kind on a common ground made with the same settings. Raises
    DataError for a kind that does not exist, or that the outcomes do not suffice for.
    """
    fit = FITS.get(settings.estimator)
    if fit is None:
        hint = nearest(settings.estimator, FITS) or f"valid: {', '.join(FITS)}"
        raise DataError(f"no estimator is called {settings.estimator}; {hint}")
    counted = _Counted(advance)
    with one_thread():
        method = fit(ground, counted)
    counted.finish(len(ground.table))
    return TrainedRouter(ground, method, IndexSettings.for_size(len(ground.table)), settings)


class _Counted:
    """Passes on what is counted; a kind that counts nothing is done at once."""

    def __init__(self, advance: Advance | None) -> None:
        self._advance = advance
        self._done = 0

    def __call__(self, done: int) -> None:
        self._done += done
        if self._advance is not None:
            self._advance(done)

    def finish(self, total: int) -> None:
        if total > self._done:
            self(total - self._done)


def write_router(
    router: TrainedRouter, out: Path, encoder: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the directory, whole or not at all, and returns its manifest."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        staged = Path(scratch) / "router"
        staged.mkdir()
        tasks = sorted(set(router.ground.table.tasks))
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
    ground, outcomes = router.ground, router.ground.table
    table = ground.fitted.table
    codes = {task: code for code, task in enumerate(tasks)}
    arrays: dict[str, NDArray[Any]] = {
        "scores": np.asfortranarray(quantise_scores(outcomes.scores)),
        "tokens": np.asfortranarray(encode_tokens(outcomes.output_tokens)),
        "task_codes": np.array([codes[task] for task in outcomes.tasks], dtype=np.uint16),
        "row_clusters": ground.fitted.row_clusters,
        "difficulty": ground.fitted.difficulty.astype(np.float16),
        "relative": outcomes.relative,
        "usual_support": ground.usual_support,
        "cells": table.cells,
        "counts": table.counts,
        "ability": table.ability,
        "ease": table.ease,
        "spread": table.spread,
        "cluster_weights": table.weights,
        "wordiness": ground.lengths.wordiness,
        "cluster_length": ground.lengths.cluster_length,
    }

    for name, array in arrays.items():
        np.save(staged / f"{name}.npy", array, allow_pickle=False)
    for name, array in router.method.arrays.items():
        np.save(staged / method_file(name), array, allow_pickle=False)
    (staged / IDS_FILE).write_text(
        "".join(f"{row_id}\n" for row_id in outcomes.ids), encoding="utf-8"
    )
    # What was trained on, without its text: so that a later evaluation can leave it out.
    prompts = outcomes.prompts
    np.save(staged / PROMPTS_FILE, np.unique(prompt_fingerprints(prompts)), allow_pickle=False)
    np.save(staged / QUESTIONS_FILE, np.unique(question_fingerprints(prompts)), allow_pickle=False)
    with one_thread():
        write_index(build_index(ground.vectors, router.index), staged / INDEX_FILE)


def _manifest(
    router: TrainedRouter,
    staged: Path,
    tasks: Sequence[str],
    encoder: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    ground, outcomes, method = router.ground, router.ground.table, router.method
    return {
        "format": FORMAT,
        "version": VERSION,
        "estimator": {
            "kind": method.kind,
            "reads_text": method.reads_text,
            "arrays": sorted(method.arrays),
            "settings": dict(method.settings),
        },
        "encoder": dict(encoder),
        "index": asdict(router.index),
        "rows": len(outcomes),
        "rows_by_source": dict(sorted(Counter(outcomes.sources).items())),
        "models": list(outcomes.models),
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
            "novelty": asdict(ground.novelty),
            "overall_length": _finite(ground.lengths.overall),
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
