"""From outcomes and a router to a promise in its directory.

The rows are put through the router as requests would be, so that what is calibrated is what will be
served: same text, same vector, same candidates.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from app.config.names import nearest
from app.errors import DataError
from app.lab.fit import Vectors
from app.lab.guarantee import (
    MOST_NEEDED,
    Calibration,
    Simulated,
    Terms,
    calibrate,
    least_rows,
    rows_needed,
    simulate,
)
from app.lab.held_out import held_out
from app.lab.outcomes import OutcomeTable
from app.routing.artifact import MANIFEST_FILE, Artifact
from app.routing.estimators.base import Array, Candidate, Query
from app.routing.model_names import ModelNames
from app.routing.promise import PROMISES_FILE, DataFile, Promise, Simulation, read_promises

FEWEST_TO_JUDGE = 100
"""With fewer rows, that no threshold holds among them says little about more."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The models of a promise, by the router's names; `weak` in the order they are preferred."""

    strong: str
    weak: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return (self.strong, *self.weak)


def pool(artifact: Artifact, strong: str, weak: Sequence[str]) -> Pool:
    """Raises DataError for a model that the router has no outcomes of, or that is named twice."""
    names = []
    for written in (strong, *weak):
        known = artifact.knows(written)
        if known is None:
            hint = nearest(written, artifact.all_models) or "`pointsman models` lists them"
            raise DataError(f"the router has no outcomes of `{written}` ({hint})")
        if known in names:
            raise DataError(f"`{written}` is {known}, which is named already")
        names.append(known)
    if len(names) < 2:
        raise DataError("at least one weaker model is needed beside the strong one")
    return Pool(names[0], tuple(names[1:]))


def usable_rows(artifact: Artifact, table: OutcomeTable, models: Pool) -> OutcomeTable:
    """Rows that the router was not trained on and that have a score of every model.

    Raises DataError, with what is missing, where there are none.
    """
    columns = _columns(table, models)
    fresh = held_out(artifact, table).fresh
    whole = fresh[~np.isnan(table.scores[fresh][:, columns]).any(axis=1)]
    if not len(whole):
        raise DataError(
            f"none of {len(table)} prompts counts: the router was trained on "
            f"{len(table) - len(fresh)} of them, and none of the other {len(fresh)} has scores of "
            f"all of {', '.join(models.models)}"
        )
    return table.take(whole)


def predictions(
    artifact: Artifact,
    table: OutcomeTable,
    vectors: Vectors,
    models: Pool,
    advance: Callable[[int], None] | None = None,
) -> Calibration:
    """Scores and predicted gains of rows from `usable_rows`, with their vectors (rows, d)."""
    estimator = artifact.estimator([Candidate(name) for name in models.models])
    quality: Array = np.empty((len(table), len(models.models)))
    novelty: Array = np.empty(len(table))
    for row, (prompt, vector) in enumerate(zip(table.prompts, vectors, strict=True)):
        estimate = estimator.estimate(Query(prompt, vector))
        quality[row], novelty[row] = estimate.quality, estimate.novelty
        if advance is not None:
            advance(1)
    scores = table.scores[:, _columns(table, models)].astype(np.float64)
    return Calibration(
        strong=scores[:, 0],
        cheaper=scores[:, 1:],
        gains=quality[:, :1] - quality[:, 1:],
        novelty=novelty,
    )


def promise(
    rows: Calibration,
    models: Pool,
    terms: Terms,
    *,
    sources: Sequence[str],
    files: Sequence[Path],
    splits: int = 0,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Promise:
    """Raises DataError, with how many rows it would take, where these are too few."""
    if not rows.strong.any():
        raise DataError(f"{models.strong} scores 0 on every prompt: there is no quality to keep")
    found = calibrate(rows, terms)
    if found is None:
        raise DataError(_refusal(rows, terms))
    simulated = simulate(rows, terms, splits, seed, advance) if splits else None
    return Promise(
        strong=models.strong,
        weak=models.weak,
        keep=terms.keep,
        delta=terms.delta,
        bound=terms.bound,
        threshold=found.gate.threshold,
        novelty_limit=found.gate.novelty_limit,
        n=len(rows),
        bound_value=found.bound_value,
        kept=found.kept,
        weak_share=found.cheap_share,
        date=datetime.now(UTC).date().isoformat(),
        data=tuple(
            DataFile(file=path.name, sha256=sha256(path.read_bytes()).hexdigest()) for path in files
        ),
        sources=tuple(sorted(set(sources))),
        simulated=_stored(simulated),
    )


def write_promise(directory: Path, made: Promise, out: Path | None = None) -> Path:
    """Adds it to the router's promises, whole or not at all; to a copy of the router at `out` if
    that is given. Returns the file.
    """
    content = read_promises(directory, MANIFEST_FILE).adding(made).model_dump_json(indent=2) + "\n"
    if out is None or out.resolve() == directory.resolve():
        return _replace(directory / PROMISES_FILE, content)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        staged = Path(scratch) / "router"
        shutil.copytree(directory, staged)
        _replace(staged / PROMISES_FILE, content)
        if out.exists():
            out.rename(Path(scratch) / "previous")
        staged.rename(out)
    return out / PROMISES_FILE


def _replace(path: Path, content: str) -> Path:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(content, encoding="utf-8")
    scratch.replace(path)
    return path


def _columns(table: OutcomeTable, models: Pool) -> list[int]:
    names = ModelNames(table.models)
    columns = []
    for model in models.models:
        known = names.find(model)
        if known is None:
            raise DataError(f"the files have no outcomes of {model}")
        columns.append(table.columns[known])
    return columns


def _refusal(rows: Calibration, terms: Terms) -> str:
    start = (
        f"{len(rows)} calibration prompts buy no promise to keep {terms.keep:g} with delta "
        f"{terms.delta:g} by the {terms.bound} bound"
    )
    least = least_rows(terms)
    if least is None or len(rows) < least:
        told = f"{least or MOST_NEEDED:,}"
        start += f"; fewer than {told} can't, even where the cheaper models lose nothing"
    needed = rows_needed(rows, terms)
    if needed is None and len(rows) < FEWEST_TO_JUDGE:
        return f"{start}, and these are too few to tell how many more it takes"
    if needed is None:
        return (
            f"{start}, nor would {MOST_NEEDED:,} like these: cheaper models lose too much even "
            "where the router predicts the least loss; lower --keep, or name other --weak models"
        )
    count, share = needed
    if count <= len(rows):
        # Draws differ: these are at the edge.
        count = len(rows) * 4 // 3
    return (
        f"{start}: about {count:,} like these are needed, for a first {share:.0%} of requests to "
        "cheaper models"
    )


def _stored(simulated: Simulated | None) -> Simulation | None:
    if simulated is None:
        return None
    return Simulation(
        splits=simulated.splits,
        violations=simulated.violations,
        weak_share=simulated.cheap_share,
    )
