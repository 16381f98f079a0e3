"""Which rows of outcome files are new to a router: no figure may come from what it was fitted on.

A router's directory says what it was trained on by fingerprints. An older one has ids only; what
these don't settle is compared by vector, and all but equal prompts are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.fingerprints import (
    PROMPTS_FILE,
    QUESTIONS_FILE,
    Fingerprints,
    prompt_fingerprints,
    question_fingerprints,
    read_fingerprints,
)
from app.lab.outcomes import OutcomeTable
from app.routing.artifact import IDS_FILE, Artifact

LeaveOut = Literal["question", "prompt"]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

ALIKE = 0.995
"""Cosine from which two prompts count as one: above what compressing the index takes away."""

NEW, SAME_PROMPT, SAME_QUESTION, ALL_BUT_EQUAL = 0, 1, 2, 3
REASONS = {
    SAME_PROMPT: "same_prompt",
    SAME_QUESTION: "same_question",
    ALL_BUT_EQUAL: "all_but_equal",
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


def held_out(
    artifact: Artifact, table: OutcomeTable, encode: Encode, leave_out: LeaveOut = "question"
) -> HeldOut:
    """Rows whose prompt the router was trained on, and by default also those with the same question
    and other options, are known; the others are new.

    `encode` is called for an older router only. Raises DataError where nothing is new.
    """
    prompts, questions = prompt_fingerprints(table.prompts), question_fingerprints(table.prompts)
    known_prompts = read_fingerprints(artifact.directory / PROMPTS_FILE)
    known_questions = read_fingerprints(artifact.directory / QUESTIONS_FILE)
    complete = known_prompts is not None and known_questions is not None
    if known_prompts is None or known_questions is None:
        trained = _by_id(artifact, table)
        known_prompts, known_questions = np.unique(prompts[trained]), np.unique(questions[trained])
    codes = _by_fingerprint(prompts, questions, known_prompts, known_questions, leave_out)
    if not complete:
        _by_vector(artifact, table, codes, encode)
    found = HeldOut(codes)
    if not len(found.fresh):
        counts = ", ".join(f"{n} {name}" for name, n in found.left_out().items() if n)
        raise DataError(
            f"no row is new to this router: of {len(table)} rows it was trained on all ({counts}); "
            "give it outcomes of other prompts, or train it with a share kept out (--test-share)"
        )
    return found


def _by_fingerprint(
    prompts: Fingerprints,
    questions: Fingerprints,
    known_prompts: Fingerprints,
    known_questions: Fingerprints,
    leave_out: LeaveOut,
) -> NDArray[np.uint8]:
    codes = np.full(len(prompts), NEW, dtype=np.uint8)
    if leave_out == "question":
        codes[np.isin(questions, known_questions)] = SAME_QUESTION
    codes[np.isin(prompts, known_prompts)] = SAME_PROMPT
    return codes


def _by_id(artifact: Artifact, table: OutcomeTable) -> NDArray[np.bool_]:
    """Rows whose id the router has. Equal prompts share one id, so these alone are not all."""
    trained = set((artifact.directory / IDS_FILE).read_text(encoding="utf-8").splitlines())
    return np.array([row_id in trained for row_id in table.ids], dtype=bool)


def _by_vector(
    artifact: Artifact, table: OutcomeTable, codes: NDArray[np.uint8], encode: Encode
) -> None:
    """Marks rows that are all but equal to a prompt of the router's, in place."""
    fresh = np.flatnonzero(codes == NEW)
    vectors = encode([table.prompts[row] for row in fresh])
    for row, vector in zip(fresh, vectors, strict=True):
        similarities, _ = artifact.index.search(vector, 1)
        if len(similarities) and similarities[0] >= ALIKE:
            codes[row] = ALL_BUT_EQUAL
