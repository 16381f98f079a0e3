"""Reads routing outcomes: what each of several models scored on a prompt, and how long its answer
was.

Many files become one table. Rows are checked one by one, so that a mistake is reported with file,
row and field; rows with the same prompt are merged, so that a prompt scored in two places counts
once; and splits go by the question, over all files together, so that nothing tested on was trained
on.
"""

from __future__ import annotations

import gzip
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.errors import DataError
from app.routing.model_names import canonical_name

SPLIT_SALT = b"pointsman-split-1"
SHORTEST_ANSWER_TOKENS = 2
"""An answer of one token is a harness reading a letter; it says nothing about how long a served
answer will be.
"""

_OPTION_LINE = re.compile(r"^\s*\(?[a-j][.)]\s", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one prompt."""

    score: float
    output_tokens: float = math.nan
    cost_usd: float = math.nan


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One prompt and the outcomes of the models that answered it."""

    id: str
    source: str
    task: str
    prompt: str
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Rows by models. Missing cells are nan; `models` are canonical names in alphabetical order."""

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    tasks: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    scores: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    costs_usd: NDArray[np.float32]
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
            columns=self.columns,
        )


def read_outcomes(paths: Sequence[Path]) -> list[OutcomeRow]:
    """All rows of all files, in order. Raises DataError naming file, row and field."""
    if not paths:
        raise DataError("no outcome files were given")
    rows: list[OutcomeRow] = []
    seen: dict[str, str] = {}
    for path in paths:
        before = len(rows)
        for number, row in _read_file(path):
            place = f"{path.name}: row {number}"
            if row.id in seen:
                raise DataError(f"{place}: field id: {row.id!r} was used before, at {seen[row.id]}")
            seen[row.id] = place
            rows.append(row)
        if len(rows) == before:
            raise DataError(f"{path.name}: the file has no rows")
    return rows


def build_table(
    rows: Iterable[OutcomeRow], *, models: Sequence[str] | None = None, merge: bool = True
) -> OutcomeTable:
    """Rows as a table, in an order that does not depend on that of the files.

    `merge` joins rows with the same prompt and averages a model's scores over them. `models` keeps
    only these; a name no row has is a DataError, and rows left without outcomes are dropped.
    """
    groups: dict[str, list[OutcomeRow]] = {}
    for row in rows:
        key = normalise(row.prompt) if merge else row.id
        groups.setdefault(key, []).append(row)
    merged = sorted(
        (_merge(group) for group in groups.values()), key=lambda row: _order(row.prompt, row.id)
    )
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


def _order(prompt: str, row_id: str) -> tuple[bytes, str]:
    return blake2b(
        normalise(prompt).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest(), row_id


def _read_file(path: Path) -> Iterator[tuple[int, OutcomeRow]]:
    """Rows with their line numbers. Other formats join here by suffix."""
    name = path.name
    if not name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{name}: outcome files end in .jsonl or .jsonl.gz")
    try:
        with gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse(line, f"{name}: row {number}")
    except (OSError, EOFError) as error:
        raise DataError(f"{name}: cannot be read: {error}") from error


def _parse(line: bytes, place: str) -> OutcomeRow:
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DataError(f"{place}: expected an object")
    outcomes = raw.get("outcomes")
    if not isinstance(outcomes, dict) or not outcomes:
        raise DataError(f"{place}: field outcomes: expected an object with at least one model")
    return OutcomeRow(
        id=_text(raw, "id", place),
        source=_text(raw, "source", place),
        task=_text(raw, "task", place),
        prompt=_text(raw, "prompt", place),
        outcomes=_outcomes(outcomes, place),
    )


def _text(raw: Mapping[str, Any], name: str, place: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: field {name}: expected a non-empty string")
    return value


def _outcomes(raw: Mapping[str, Any], place: str) -> dict[str, Outcome]:
    gathered: dict[str, list[Outcome]] = {}
    for name, fields in raw.items():
        where = f"{place}: field outcomes.{name}"
        if not isinstance(fields, dict):
            raise DataError(f"{where}: expected an object")
        score = _number(fields, "score", where)
        if not 0.0 <= score <= 1.0:
            raise DataError(
                f"{where}.score: expected a number from 0 to 1, found {fields.get('score')!r}"
            )
        outcome = Outcome(
            score=score,
            output_tokens=_number(fields, "output_tokens", where, optional=True),
            cost_usd=_number(fields, "cost_usd", where, optional=True),
        )
        gathered.setdefault(canonical_name(name), []).append(outcome)
    return {name: _mean(outcomes) for name, outcomes in gathered.items()}


def _number(fields: Mapping[str, Any], name: str, where: str, *, optional: bool = False) -> float:
    value = fields.get(name)
    if value is None and optional:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}.{name}: expected a finite number, found {value!r}")
    if value < 0:
        raise DataError(f"{where}.{name}: expected a number of at least 0, found {value!r}")
    return float(value)


def _merge(rows: Sequence[OutcomeRow]) -> OutcomeRow:
    first = min(rows, key=lambda row: row.id)
    if len(rows) == 1:
        return first
    names = sorted({name for row in rows for name in row.outcomes})
    outcomes = {
        name: _mean([row.outcomes[name] for row in rows if name in row.outcomes]) for name in names
    }
    return OutcomeRow(first.id, first.source, first.task, first.prompt, outcomes)


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        score=math.fsum(outcome.score for outcome in outcomes) / len(outcomes),
        output_tokens=_known_mean([outcome.output_tokens for outcome in outcomes]),
        cost_usd=_known_mean([outcome.cost_usd for outcome in outcomes]),
    )


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _choose(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    chosen = sorted({canonical_name(name) for name in wanted})
    missing = [name for name in chosen if name not in known]
    if missing:
        raise DataError(f"no outcomes of: {', '.join(missing)}; the files know {', '.join(known)}")
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
        columns=columns,
    )
