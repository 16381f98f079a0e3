"""A tuned model as an encoder directory, which training and serving take like any other."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.lab.encoder_export import ExportSettings, write_encoder
from app.lab.tuning.classifier import TunedClassifier
from app.lab.tuning.contrastive import TunedEncoder
from app.lab.tuning.settings import TuneSettings
from app.routing.estimators.classifier import HEADS_FILE


def export(
    tuned: TunedClassifier | TunedEncoder,
    out: Path,
    settings: TuneSettings,
    export_settings: ExportSettings | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the directory, whole or not at all, and returns its manifest: that of an exported
    encoder with a `tuning` entry and, of a classifier, `heads`.
    """
    entries: dict[str, Any] = {"tuning": _tuning(tuned, settings) | dict(provenance or {})}
    files: dict[str, bytes] = {}
    if isinstance(tuned, TunedClassifier):
        files[HEADS_FILE], entries["heads"] = tuned.heads.write()
    return write_encoder(
        tuned.model,
        out,
        export_settings or ExportSettings(),
        source=settings.source,
        command=command(settings),
        entries=entries,
        files=files,
    )


def command(settings: TuneSettings) -> str:
    """What repeats the run, but for the data and the place."""
    given = {
        "source": settings.source,
        "strong": settings.strong,
        "weak": settings.weak,
        "steps": settings.steps,
        "epochs": settings.epochs,
        "batch": settings.batch,
        "lr": settings.learning_rate,
        "max-rows": settings.max_rows,
        "max-tokens": settings.max_tokens,
        "seed": settings.seed,
        "threads": settings.threads,
    }
    options = " ".join(
        f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None
    )
    return (
        f"pointsman encoder tune --data FILES --out DIR --objective {settings.objective} {options}"
    )


def loss_at_ends(losses: tuple[float, ...]) -> tuple[float, float]:
    """Mean loss over the first and the last tenth of the steps: one step's is mostly luck."""
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _tuning(tuned: TunedClassifier | TunedEncoder, settings: TuneSettings) -> dict[str, Any]:
    first, last = loss_at_ends(tuned.losses)
    return {
        "objective": settings.objective,
        "rows": tuned.rows,
        "steps": len(tuned.losses),
        "loss_first_tenth": round(first, 6),
        "loss_last_tenth": round(last, 6),
        "settings": asdict(settings) | {"batch": settings.batch_size},
    }
