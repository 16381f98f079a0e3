"""Which rows a router may be calibrated on: those it was not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.lab.fingerprints import QUESTIONS_FILE, question_fingerprints, read_fingerprints
from app.lab.outcomes import SPLIT_SALT, OutcomeTable, split_position
from app.routing.artifact import IDS_FILE, Artifact


def not_trained_on(artifact: Artifact, table: OutcomeTable) -> NDArray[np.intp]:
    """Rows whose question the router was not trained on.

    A router without fingerprints says less: of it count rows in the sealed share of questions, and
    rows of sources it has never seen. A row of a source that it has seen may lack its id only
    because it was merged with another.
    """
    known = read_fingerprints(artifact.directory / QUESTIONS_FILE)
    if known is not None:
        return np.flatnonzero(~np.isin(question_fingerprints(table.prompts), known))
    ids = set((artifact.directory / IDS_FILE).read_text(encoding="utf-8").splitlines())
    trained = set(artifact.manifest.get("rows_by_source", ()))
    split = artifact.manifest.get("split", {})
    sealed = split.get("test_share", 0.0) if split.get("salt") == SPLIT_SALT.decode() else 0.0
    kept = [
        split_position(prompt) < sealed or (row_id not in ids and source not in trained)
        for row_id, source, prompt in zip(table.ids, table.sources, table.prompts, strict=True)
    ]
    return np.flatnonzero(kept)
