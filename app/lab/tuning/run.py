"""One call for all objectives, for who takes the objective from a command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.lab.outcomes import OutcomeTable
from app.lab.tuning import classifier, contrastive
from app.lab.tuning.classifier import TunedClassifier
from app.lab.tuning.contrastive import TunedEncoder
from app.lab.tuning.settings import TuneSettings


def tune(
    table: OutcomeTable, settings: TuneSettings, advance: Callable[[int], None] | None = None
) -> TunedClassifier | TunedEncoder:
    """Tunes for the settings' objective; errors are those of the two functions it calls."""
    if settings.objective == "classifier":
        return classifier.tune_classifier(table, settings, advance)
    return contrastive.tune_contrastive(table, settings, advance)


def steps_of(table: OutcomeTable, settings: TuneSettings) -> int:
    """How many steps that takes. DataError where the table can't be tuned on."""
    if settings.objective == "classifier":
        return classifier.steps_of(table, settings)
    return contrastive.steps_of(table, settings)


def provenance(
    files: Sequence[Path], models: Sequence[str] | None, test_share: float
) -> dict[str, Any]:
    """Where the rows came from: names without folders, which differ between machines."""
    return {
        "data": [
            {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()} for path in files
        ],
        "models": None if models is None else list(models),
        "test_share": test_share,
    }
