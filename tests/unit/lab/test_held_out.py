"""What a router was trained on is left out, by fingerprint."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.errors import ArtifactError, DataError
from app.lab.fingerprints import (
    fingerprint_of,
    prompt_fingerprints,
    question_fingerprints,
    read_fingerprints,
)
from app.lab.held_out import held_out
from app.lab.outcomes import Outcome, OutcomeRow, OutcomeTable, build_table, split
from app.lab.synthetic import synthetic_rows
from app.routing.artifact import Artifact, load_artifact

ASKED = "Which of these is prime?\nA) 4\nB) 7\nAnswer:"
OTHER_OPTIONS = "Which of these is prime?\nA) 9\nB) 11\nC) 21\nAnswer:"


def with_fingerprints(directory: Path, out: Path, prompts: Sequence[str]) -> Artifact:
    artifact = load_artifact(shutil.copytree(directory, out))
    np.save(out / "prompts.npy", np.unique(prompt_fingerprints(prompts)))
    np.save(out / "questions.npy", np.unique(question_fingerprints(prompts)))
    return artifact


def rows_of(*prompts: str) -> OutcomeTable:
    return build_table(
        [
            OutcomeRow(f"r{at}", "exam", "sums", prompt, {"small": Outcome(1.0)})
            for at, prompt in enumerate(prompts)
        ],
        merge=False,
    )


def test_fingerprints_do_not_change() -> None:
    # They are kept in router directories: another value would forget what was trained on.
    assert fingerprint_of("") == 0xE4A6A0577479B2B4
    assert prompt_fingerprints(["One  two\n", "one two"]).tolist() == [
        fingerprint_of("one two"),
        fingerprint_of("one two"),
    ]
    assert len(set(question_fingerprints([ASKED, OTHER_OPTIONS]).tolist())) == 1
    assert len(set(prompt_fingerprints([ASKED, OTHER_OPTIONS]).tolist())) == 2
    assert prompt_fingerprints(["\ud800"]).dtype == np.uint64


def test_the_same_question_with_other_options_is_left_out(
    router_directory: Path, tmp_path: Path
) -> None:
    artifact = with_fingerprints(router_directory, tmp_path / "router", [ASKED])
    table = rows_of(ASKED.upper(), OTHER_OPTIONS, "What is new?")
    found = held_out(artifact, table)
    assert [table.prompts[row] for row in found.fresh] == ["What is new?"]
    assert found.left_out() == {"same_prompt": 1, "same_question": 1}
    by_prompt = held_out(artifact, table, "prompt")
    assert len(by_prompt.fresh) == 2
    assert by_prompt.left_out() == {"same_prompt": 1, "same_question": 0}


def test_training_leaves_the_fingerprints_of_what_it_saw(
    router_directory: Path, table: OutcomeTable
) -> None:
    known, sealed = split(table, 0.15)
    renamed = build_table(synthetic_rows(900, seed=1, source="copy"), merge=False)
    found = held_out(load_artifact(router_directory), renamed)
    assert len(found.fresh) == len(sealed)
    assert found.left_out()["same_prompt"] == len(known)


def test_nothing_new_is_refused(router_directory: Path, table: OutcomeTable) -> None:
    known, _ = split(table, 0.15)
    with pytest.raises(DataError, match="no row is new to this router"):
        held_out(load_artifact(router_directory), known)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY"])
def test_fingerprints_cut_short_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.npy"
    with pytest.raises(ArtifactError, match=r"prompts\.npy cannot be read"):
        read_fingerprints(file)
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"prompts\.npy cannot be read"):
        read_fingerprints(file)


def test_fingerprints_of_another_form_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "prompts.npy", np.zeros((2, 2)))
    with pytest.raises(ArtifactError, match="expected one row of uint64"):
        read_fingerprints(tmp_path / "prompts.npy")
