"""What an outcome is, and the checks of single values that all file formats share.

A check knows the field only. Whoever reads the file knows its name and the row, and turns a
`FieldProblem` into a DataError that names all three.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from app.routing.model_names import canonical_name

LARGEST = 1e9
"""Of tokens and dollars: what is larger is a mistake, and would not fit the tables."""

Kind = Literal["scores", "preferences"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one prompt."""

    score: float
    output_tokens: float = math.nan
    cost_usd: float = math.nan


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One prompt and the outcomes of the models that answered it.

    Scores of kind "preferences" are win rates: they compare the models of the row with each other
    and say nothing of how good an answer was.
    """

    id: str
    source: str
    task: str
    prompt: str
    outcomes: Mapping[str, Outcome]
    kind: Kind = "scores"


class FieldProblem(Exception):
    """A field's value cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"field {field}: {message}")
        self.field = field
        self.message = message


def read_outcome(fields: Mapping[str, Any]) -> Outcome:
    """The outcome in `score`, from 0 to 1, and where known `output_tokens`, `cost_usd`.

    `input_tokens` is checked and dropped: a gateway counts those of the request itself.
    """
    _optional(fields, "input_tokens")
    return Outcome(
        score=number(fields.get("score"), "score", 1.0),
        output_tokens=_optional(fields, "output_tokens"),
        cost_usd=_optional(fields, "cost_usd"),
    )


def number(value: object, field: str, largest: float = LARGEST) -> float:
    """A finite number from 0 to `largest`; true and false are none."""
    kind = type(value)
    if (kind is float or kind is int) and 0 <= value <= largest:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, Decimal):
        return number(float(value), field, largest)
    raise _no_number(value, field, largest)


def text(value: object, field: str, default: str | None = None) -> str:
    """A string with something in it, or the default where there is no value."""
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value.strip():
        raise FieldProblem(field, f"expected a non-empty string, found {reprlib.repr(value)}")
    return value


def row_id(value: object, stem: str, row: int) -> str:
    """The row's id: given, or the file's stem and the row's number. A whole number is one too."""
    if value is None:
        return f"{stem}/{row}"
    if type(value) is int:
        return str(value)
    given = text(value, "id")
    if given.splitlines() != [given]:
        raise FieldProblem("id", f"expected a single line, found {reprlib.repr(given)}")
    return given


def model_name(value: object, field: str) -> str:
    """The canonical name of a model."""
    return _canonical(text(value, field))


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of several outcomes of one model; lengths and costs over those that know them."""
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        score=math.fsum(outcome.score for outcome in outcomes) / len(outcomes),
        output_tokens=_known_mean([outcome.output_tokens for outcome in outcomes]),
        cost_usd=_known_mean([outcome.cost_usd for outcome in outcomes]),
    )


# Files repeat the same few names on every row.
_canonical = lru_cache(maxsize=4096)(canonical_name)


def _optional(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return math.nan if value is None else number(value, name)


def _no_number(value: object, field: str, largest: float) -> FieldProblem:
    found = f"found {reprlib.repr(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return FieldProblem(field, f"expected a finite number, {found}")
    return FieldProblem(field, f"expected a number from 0 to {largest:,.0f}, {found}")


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
