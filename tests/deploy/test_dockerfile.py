"""The Dockerfile and what goes into its image, by reading: docs/operations.md says what was run."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = Path("Dockerfile").read_text()
STEPS = re.sub(r"\\\n\s*", "", TEXT).splitlines()
FINAL = STEPS[max(place for place, step in enumerate(STEPS) if step.startswith("FROM ")) :]


def steps(word: str, lines: list[str] = STEPS) -> list[str]:
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


def test_there_are_two_stages_on_one_base_pinned_by_version_and_digest() -> None:
    bases = [line.split(" AS ")[0] for line in steps("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", bases[0])


def test_it_runs_as_a_numbered_user_without_rights() -> None:
    """By number, or Kubernetes can't tell that it is not root."""
    (user,) = steps("USER", FINAL)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    after = FINAL[FINAL.index(f"USER {user}") :]
    assert not steps("RUN", after)


def test_dependencies_are_the_pinned_ones_and_only_those_that_serve() -> None:
    (install,) = (line for line in steps("RUN") if "-e '" in line)
    assert "-c deploy/constraints.txt" in install
    assert "'.[postgres,otel]'" in install


def test_its_health_is_asked_of_the_gateway_without_another_program() -> None:
    (check,) = re.findall(r"HEALTHCHECK.*", "\n".join(FINAL))
    assert "http://127.0.0.1:8080/livez" in check
    assert "curl" not in check
    assert '"--port", "8080"' in steps("CMD", FINAL)[-1]


def test_everything_that_is_copied_is_let_through_and_exists() -> None:
    """`.dockerignore` lets nothing through that is not named."""
    ignore = Path(".dockerignore").read_text().splitlines()
    assert "*" in ignore
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        name
        for line in steps("COPY")
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }
    assert copied == allowed
    assert all(Path(name).exists() for name in copied)


def test_no_secret_is_written_into_the_image() -> None:
    written = " ".join(steps("ENV") + steps("ARG"))
    assert not re.search(r"(?i)key|secret|password|token", written)
