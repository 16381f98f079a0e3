"""Where a router comes from, for its manifest: files by hash, sources with licences, and the
command that repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.lab.sources import describe_sources
from app.routing.encoder.onnx import read_manifest

if TYPE_CHECKING:
    from app.lab.outcomes import OutcomeTable
    from app.lab.train import TrainSettings


def describe(
    files: Sequence[Path],
    table: OutcomeTable,
    models: Sequence[str] | None,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Names of files without their folders: a manifest must not depend on where the data lay."""
    names = " ".join(path.name for path in files)
    chosen = f" --models {','.join(models)}" if models else ""
    return {
        "command": f"pointsman train --data {names} --out DIR{chosen} --seed {settings.seed}"
        f" --test-share {settings.test_share} --estimator {settings.estimator}",
        "data": [
            {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()} for path in files
        ],
        "sources": describe_sources(table.sources),
        "text": "No prompt text is kept: vectors, scores, lengths, ids and task names only.",
    }


def encoder_entry(directory: Path) -> dict[str, Any]:
    """What the router needs of its encoder."""
    manifest = read_manifest(directory)
    return {
        "name": directory.name,
        "fingerprint": manifest["fingerprint"],
        "dimensions": manifest["dimensions"],
        "source": manifest["source"],
    }
