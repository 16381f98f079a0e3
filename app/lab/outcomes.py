"""Routing outcomes as a table: what each of several models scored on a prompt, and how long its
answer was.

Many files become one table. Rows with the same prompt are merged, so that a prompt scored in two
places counts once; and splits go by the question, over all files together, so that nothing tested
on was trained on. How files are read is in `reading`, how preferences become scores in
`preferences`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.config.names import nearest
from app.errors import DataError
from app.lab.reading import read_file
from app.lab.rows import Kind, Outcome, OutcomeRow, mean_outcome
from app.routing.model_names import canonical_name

__all__ = [
    "SPLIT_SALT",
    "Kind",
    "Outcome",
    "OutcomeRow",
    "OutcomeTable",
    "build_table",
    "normalise",
    "question",
    "read_outcomes",
    "split",
    "split_position",
]

SPLIT_SALT = b"pointsman-split-1"
SHORTEST_ANSWER_TOKENS = 2
"""An answer of one token is a harness reading a letter; it says nothing about how long a served
answer will be.
"""

_OPTION_LINE = re.compile(r"^\s*\(?[a-j][.)]\s", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Rows by models. Missing cells are nan; `models` are canonical names in alphabetical order.

    `relative` marks the rows whose scores are win rates: differences between models mean there what
    they mean elsewhere, the level does not.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    tasks: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    scores: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    costs_usd: NDArray[np.float32]
    relative: NDArray[np.bool_]
    columns: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp] | Sequence[int]) -> OutcomeTable:
        """The table of these rows, with the same models."""
        order = np.asarray(rows, dtype=np.intp)
        return OutcomeTable(
            ids=tuple(self.ids[row] for row in order),
            sources=tuple(self.sources[row] for row in order),
            tasks=tuple(self.tasks[row] for row in order),
            prompts=tuple(self.prompts[row] for row in order),
            models=self.models,
            scores=self.scores[order],
            output_tokens=self.output_tokens[order],
            costs_usd=self.costs_usd[order],
            relative=self.relative[order],
            columns=self.columns,
        )


def read_outcomes(paths: Sequence[Path]) -> list[OutcomeRow]:
    """All rows of all files, in order. Raises DataError naming file, row and field."""
    if not paths:
        raise DataError("no outcome files were given")
    rows: list[OutcomeRow] = []
    seen: dict[str, tuple[str, int]] = {}
    for path, label in zip(paths, _labels(paths), strict=True):
        before = len(rows)
        for number, row in read_file(path, label):
            if row.id in seen:
                file, earlier = seen[row.id]
                raise DataError(
                    f"{label}: row {number}: field id: {row.id!r} was used before, at {file}: row "
                    f"{earlier}; an id may be there once in all files together"
                )
            seen[row.id] = (label, number)
            rows.append(row)
        if len(rows) == before:
            raise DataError(f"{label}: the file has no rows")
    return rows


def build_table(
    rows: Iterable[OutcomeRow], *, models: Sequence[str] | None = None, merge: bool = True
) -> OutcomeTable:
    """Rows as a table, in an order that does not depend on that of the files.

    `merge` joins rows with the same prompt and averages a model's scores over them; rows of scores
    and rows of preferences stay apart, since a win rate is no score. `models` keeps only these; a
    name no row has is a DataError, and rows left without outcomes are dropped.
    """
    groups: dict[tuple[str, Kind], list[OutcomeRow]] = {}
    for row in rows:
        key = normalise(row.prompt) if merge else row.id
        groups.setdefault((key, row.kind), []).append(row)
    merged = sorted((_merge(group) for group in groups.values()), key=_order)
    known = sorted({name for row in merged for name in row.outcomes})
    wanted = known if models is None else _choose(models, known)
    merged = [row for row in merged if any(name in row.outcomes for name in wanted)]
    if not merged:
        raise DataError("no row has an outcome of the models asked for")
    return _tabulate(merged, wanted)


def normalise(prompt: str) -> str:
    """A prompt without what does not change its meaning: case, spacing, Unicode form."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", prompt)).strip().casefold()


def question(prompt: str) -> str:
    """The question alone, without its multiple-choice options, which differ between versions of one
    benchmark.
    """
    lines = [
        line
        for line in prompt.splitlines()
        if not _OPTION_LINE.match(line) and line.strip().casefold() != "answer:"
    ]
    return normalise("\n".join(lines)) or normalise(prompt)


Unit = Literal["question", "prompt"]
"""What must not be on both sides of a split: a question, whatever its options, or only the whole
prompt, as in published figures."""


def unit(prompt: str, of: Unit) -> str:
    """Equal for prompts that count as one."""
    return question(prompt) if of == "question" else normalise(prompt)


def split_position(prompt: str) -> float:
    """Where a prompt falls in [0, 1): equal for equal questions, whatever file they are in."""
    digest = blake2b(
        question(prompt).encode("utf-8", "surrogatepass"), digest_size=8, key=SPLIT_SALT
    )
    return int.from_bytes(digest.digest(), "big") / 2**64


def split(table: OutcomeTable, test_share: float) -> tuple[OutcomeTable, OutcomeTable]:
    """Training and test rows; a question is in one of them only."""
    positions = np.array([split_position(prompt) for prompt in table.prompts])
    return (
        table.take(np.flatnonzero(positions >= test_share)),
        table.take(np.flatnonzero(positions < test_share)),
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """What messages call the files: their names, with folders where two share one."""
    names = Counter(path.name for path in paths)
    return [path.name if names[path.name] == 1 else str(path) for path in paths]


def _order(row: OutcomeRow) -> tuple[bytes, str, Kind]:
    prompt = normalise(row.prompt).encode("utf-8", "surrogatepass")
    return blake2b(prompt, digest_size=16).digest(), row.id, row.kind


def _merge(rows: Sequence[OutcomeRow]) -> OutcomeRow:
    first = min(rows, key=lambda row: row.id)
    if len(rows) == 1:
        return first
    names = sorted({name for row in rows for name in row.outcomes})
    outcomes = {
        name: mean_outcome([row.outcomes[name] for row in rows if name in row.outcomes])
        for name in names
    }
    return OutcomeRow(first.id, first.source, first.task, first.prompt, outcomes, first.kind)


def _choose(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    chosen = sorted({canonical_name(name) for name in wanted})
    missing = [name for name in chosen if name not in known]
    if missing:
        hints = [nearest(name, known) or f"the files know {len(known)} others" for name in missing]
        named = "; ".join(f"{name} ({hint})" for name, hint in zip(missing, hints, strict=True))
        raise DataError(f"models: no outcomes of: {named}")
    return chosen


def _tabulate(rows: Sequence[OutcomeRow], models: Sequence[str]) -> OutcomeTable:
    shape = (len(rows), len(models))
    scores, tokens, costs = (np.full(shape, np.nan, dtype=np.float32) for _ in range(3))
    columns = {name: column for column, name in enumerate(models)}
    for number, row in enumerate(rows):
        for name, outcome in row.outcomes.items():
            column = columns.get(name)
            if column is None:
                continue
            scores[number, column] = outcome.score
            costs[number, column] = outcome.cost_usd
            if outcome.output_tokens >= SHORTEST_ANSWER_TOKENS:
                tokens[number, column] = outcome.output_tokens
    return OutcomeTable(
        ids=tuple(row.id for row in rows),
        sources=tuple(row.source for row in rows),
        tasks=tuple(row.task for row in rows),
        prompts=tuple(row.prompt for row in rows),
        models=tuple(models),
        scores=scores,
        output_tokens=tokens,
        costs_usd=costs,
        relative=np.array([row.kind == "preferences" for row in rows], dtype=np.bool_),
        columns=columns,
    )
