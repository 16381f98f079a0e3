"""How a record becomes rows: a JSON object by its fields, a table's rows by its columns.

A table is long, a row for each prompt and model or for each comparison, or wide, a row for each
prompt with columns for each model. A record with scores and preferences becomes two rows.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import DataError
from app.lab.preferences import PAIR, Comparison, read_pair, read_preferences, win_rates
from app.lab.rows import (
    FieldProblem,
    Outcome,
    OutcomeRow,
    mean_outcome,
    model_name,
    read_outcome,
    row_id,
    text,
)

NUMBERS = ("score", "cost_usd", "input_tokens", "output_tokens")
PREFERENCES_SUFFIX = "#preferences"
"""Ends the id of the second row of a record that has both."""

_SHOWN_COLUMNS = 12
_LAYOUTS = (
    "prompt, model, score (a row for each prompt and model); "
    "prompt, score:<model> and more (a row for each prompt); "
    "prompt, model_a, model_b, winner (a row for each comparison)"
)


@dataclass(slots=True)
class Gathered:
    """What a file says of one prompt; `row` is where it begins."""

    row: int
    id: str
    source: str
    task: str
    prompt: str
    scored: dict[str, list[Outcome]] = field(default_factory=dict)
    compared: list[Comparison] = field(default_factory=list)
    scored_at: dict[str, int] = field(default_factory=dict)

    def add(self, model: str, outcome: Outcome) -> None:
        self.scored.setdefault(model, []).append(outcome)

    def rows(self) -> Iterator[tuple[int, OutcomeRow]]:
        """One row for the scores and one for the preferences, where there are any."""
        about = (self.source, self.task, self.prompt)
        if self.scored:
            outcomes = {name: mean_outcome(found) for name, found in self.scored.items()}
            yield self.row, OutcomeRow(self.id, *about, outcomes)
        if self.compared:
            name = f"{self.id}{PREFERENCES_SUFFIX}" if self.scored else self.id
            yield self.row, OutcomeRow(name, *about, win_rates(self.compared), "preferences")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table's columns hold. `wide` has for each model its (field, column) pairs."""

    long: bool
    pair: bool
    wide: Mapping[str, tuple[tuple[str, str], ...]]
    used: tuple[str, ...]
    numbers: frozenset[str]


def read_object(raw: object, row: int, stem: str) -> Gathered:
    """A JSON object. Raises FieldProblem, or DataError where it is none."""
    if not isinstance(raw, dict):
        raise DataError("expected an object")
    gathered = _begin(raw, row, stem)
    gathered.compared = read_preferences(raw)
    outcomes = raw.get("outcomes")
    if not isinstance(outcomes, dict) and not (outcomes is None and gathered.compared):
        raise FieldProblem("outcomes", "expected an object with at least one model")
    for name, fields in (outcomes or {}).items():
        if not isinstance(fields, dict):
            raise FieldProblem(f"outcomes.{name}", "expected an object")
        try:
            outcome = read_outcome(fields)
        except FieldProblem as problem:
            raise FieldProblem(f"outcomes.{name}.{problem.field}", problem.message) from problem
        gathered.add(model_name(name, f"outcomes.{name}"), outcome)
    if not gathered.scored and not gathered.compared:
        raise FieldProblem("outcomes", "expected an object with at least one model")
    return gathered


def recognise(columns: Sequence[str], label: str) -> Columns:
    """The layout that the columns make. Other columns are ignored. Raises DataError."""
    wide = _wide(columns, label)
    long = {"model", "score"}.issubset(columns)
    pair = set(PAIR).issubset(columns)
    if "prompt" not in columns or not (long or pair or wide):
        shown = ", ".join(columns[:_SHOWN_COLUMNS])
        more = ", ..." if len(columns) > _SHOWN_COLUMNS else ""
        hint = (
            "; cells are separated by commas"
            if len(columns) == 1 and set(shown) & {";", "\t"}
            else ""
        )
        raise DataError(
            f"{label}: no layout has the columns {shown}{more}; valid: {_LAYOUTS}{hint}"
        )
    if long and wide:
        raise DataError(f"{label}: columns score and score:<model>: keep one of the two")
    numbers = {column for fields in wide.values() for _, column in fields}
    texts = {"id", "source", "task", "prompt"}
    if long:
        numbers |= set(NUMBERS)
        texts.add("model")
    if pair:
        texts |= set(PAIR)
    used = [column for column in columns if column in numbers | texts]
    for column in used:
        if used.count(column) > 1:
            raise DataError(f"{label}: column {column} is there {used.count(column)} times")
    return Columns(long, pair, wide, tuple(used), frozenset(numbers))


def read_table(
    columns: Columns, records: Iterable[tuple[int, Mapping[str, Any]]], label: str, stem: str
) -> Iterator[Gathered]:
    """The prompts of a table. Records are its rows, numbered; an empty cell is None.

    In a long table the rows of one prompt are found by id or, without one, by equal source, task
    and prompt.
    """
    groups: dict[tuple[str, ...], Gathered] = {}
    for row, cells in records:
        try:
            gathered = _begin(cells, row, stem)
            if not columns.wide:
                gathered = _group(groups, gathered, has_id=cells.get("id") is not None)
            if not _add(columns, gathered, cells, row):
                raise FieldProblem(_expected(columns), "expected a value, found an empty cell")
        except FieldProblem as problem:
            raise DataError(f"{label}: row {row}: {problem}") from problem
        if columns.wide:
            yield gathered
    yield from groups.values()


def _begin(record: Mapping[str, Any], row: int, stem: str) -> Gathered:
    return Gathered(
        row=row,
        id=row_id(record.get("id"), stem, row),
        source=text(record.get("source"), "source", stem),
        task=text(record.get("task"), "task", stem),
        prompt=text(record.get("prompt"), "prompt"),
    )


def _group(
    groups: dict[tuple[str, ...], Gathered], gathered: Gathered, *, has_id: bool
) -> Gathered:
    about = (gathered.source, gathered.task, gathered.prompt)
    first = groups.setdefault((gathered.id,) if has_id else about, gathered)
    for name in ("source", "task", "prompt"):
        if getattr(first, name) != getattr(gathered, name):
            raise FieldProblem(name, f"is another in row {first.row}, which has the same id")
    if not has_id:
        # Two samples of a model's answer: their mean counts.
        first.scored_at.clear()
    return first


def _add(columns: Columns, gathered: Gathered, cells: Mapping[str, Any], row: int) -> bool:
    """Adds what a table's row says, and whether it says anything."""
    found = False
    for model, fields in columns.wide.items():
        values = {name: cells[column] for name, column in fields if cells[column] is not None}
        if values:
            try:
                gathered.add(model_name(model, f"score:{model}"), read_outcome(values))
            except FieldProblem as problem:
                raise FieldProblem(f"{problem.field}:{model}", problem.message) from problem
            found = True
    if columns.long and not (cells["model"] is None and cells["score"] is None):
        name = text(cells["model"], "model")
        before = gathered.scored_at.setdefault(name, row)
        if before != row:
            shown = reprlib.repr(name)
            raise FieldProblem("model", f"{shown} has a score for this id already, in row {before}")
        gathered.add(model_name(name, "model"), read_outcome(cells))
        found = True
    pair = read_pair(cells) if columns.pair else None
    if pair is not None:
        gathered.compared.append(pair)
        found = True
    return found


def _wide(columns: Sequence[str], label: str) -> dict[str, tuple[tuple[str, str], ...]]:
    models: dict[str, dict[str, str]] = {}
    for column in columns:
        name, _, model = column.partition(":")
        if model and name in NUMBERS:
            models.setdefault(model, {})[name] = column
    for model, fields in models.items():
        if "score" not in fields:
            column = next(iter(fields.values()))
            raise DataError(f"{label}: column {column} has no column score:{model} beside it")
    return {model: tuple(fields.items()) for model, fields in models.items()}


def _expected(columns: Columns) -> str:
    names = []
    if columns.long:
        names.append("score")
    if columns.wide:
        names.append("score:<model>")
    if columns.pair:
        names.append("winner")
    return " or ".join(names)
