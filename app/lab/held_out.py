"""Which rows of outcome files are new to a router: no figure may come from what it was fitted on.

A router's directory says what it was trained on by fingerprints of prompts and of questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.fingerprints import (
    prompt_fingerprints,
    question_fingerprints,
    read_fingerprints,
)
from app.lab.outcomes import OutcomeTable, Unit
from app.lab.trial import Unscorable
from app.routing.artifact import PROMPTS_FILE, QUESTIONS_FILE, Artifact

NEW, SAME_PROMPT, SAME_QUESTION = 0, 1, 2
REASONS = {
    SAME_PROMPT: "same_prompt",
    SAME_QUESTION: "same_question",
}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Why each row of a table is left out, as a code; NEW where it is not."""

    codes: NDArray[np.uint8]

    @property
    def fresh(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.codes == NEW)

    @property
    def known(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.codes != NEW)

    def left_out(self, rows: NDArray[np.intp] | None = None) -> dict[str, int]:
        """How many of these rows, or of all, are left out, for each reason."""
        codes = self.codes if rows is None else self.codes[rows]
        return {name: int((codes == code).sum()) for code, name in REASONS.items()}


def held_out(artifact: Artifact, table: OutcomeTable, leave_out: Unit = "question") -> HeldOut:
    """Rows whose prompt the router was trained on, and by default also those with the same question
    and other options, are known; the others are new.

    Raises Unscorable where nothing is new.
    """
    codes = np.full(len(table), NEW, dtype=np.uint8)
    if leave_out == "question":
        known = read_fingerprints(artifact.directory / QUESTIONS_FILE)
        codes[np.isin(question_fingerprints(table.prompts), known)] = SAME_QUESTION
    known = read_fingerprints(artifact.directory / PROMPTS_FILE)
    codes[np.isin(prompt_fingerprints(table.prompts), known)] = SAME_PROMPT
    found = HeldOut(codes)
    if not len(found.fresh):
        counts = ", ".join(f"{n} {name}" for name, n in found.left_out().items() if n)
        raise Unscorable(
            f"no row is new to this router: of {len(table)} rows it was trained on all ({counts}); "
            "give it outcomes of other prompts, or train it with a share kept out (--test-share)"
        )
    return found
