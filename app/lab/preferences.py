"""Turns preferences into scores: which of two models' answers was better, or neither.

In one comparison the winner scores 1 and the loser 0; a tie scores 0.5 for both. A model compared
several times on a prompt scores the mean, its win rate. So for one comparison the gain, strong
minus weak, is 1, 0 or -1: 2 P(strong wins) - 1 with a tie counted as half a win, which is the
target of RouteLLM (arXiv 2406.18665). A router learns from preferences what it learns from scores.

Such a score is relative. That A lost to B on a prompt does not say that A was wrong, and win rates
against different opponents compare only roughly. A row therefore remembers its kind, and rows of
scores and of preferences are never averaged with each other.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.lab.rows import FieldProblem, Outcome, model_name

PAIR = ("model_a", "model_b", "winner")
"""The fields of a comparison at the top of a row, as public arena data has them."""

SHARES: Mapping[str, float] = {
    "a": 1.0,
    "b": 0.0,
    "tie": 0.5,
    "model_a": 1.0,
    "model_b": 0.0,
    "tie (bothbad)": 0.5,
    "both_bad": 0.5,
}
"""The first model's share of the win, by what the winner may be called."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models' answers to one prompt. `share` is the first one's share of the win: 1, 0.5 or
    0.
    """

    first: str
    second: str
    share: float


def read_preferences(row: Mapping[str, Any]) -> list[Comparison]:
    """The comparisons of a row: its list `preferences`, and the pair at its top."""
    entries = row.get("preferences")
    if entries is None:
        comparisons = []
    elif isinstance(entries, list):
        comparisons = [_entry(entry, f"preferences[{at}]") for at, entry in enumerate(entries)]
    else:
        raise FieldProblem("preferences", "expected a list of objects with a, b and winner")
    pair = read_pair(row)
    return comparisons if pair is None else [*comparisons, pair]


def read_pair(row: Mapping[str, Any]) -> Comparison | None:
    """The comparison in `model_a`, `model_b` and `winner`, if the row has one."""
    first, second = row.get("model_a"), row.get("model_b")
    if first is None and second is None:
        return None
    return _comparison((first, second, row.get("winner")), PAIR)


def win_rates(comparisons: Iterable[Comparison]) -> dict[str, Outcome]:
    """Each compared model's share of its wins as a score. Lengths and costs are not known."""
    shares: dict[str, list[float]] = {}
    for comparison in comparisons:
        shares.setdefault(comparison.first, []).append(comparison.share)
        shares.setdefault(comparison.second, []).append(1.0 - comparison.share)
    return {model: Outcome(math.fsum(won) / len(won)) for model, won in shares.items()}


def _entry(entry: object, field: str) -> Comparison:
    if not isinstance(entry, dict):
        raise FieldProblem(field, "expected an object with a, b and winner")
    values = (entry.get("a"), entry.get("b"), entry.get("winner"))
    return _comparison(values, (f"{field}.a", f"{field}.b", f"{field}.winner"))


def _comparison(values: tuple[Any, Any, Any], fields: tuple[str, str, str]) -> Comparison:
    first, second = (model_name(values[side], fields[side]) for side in (0, 1))
    if first == second:
        raise FieldProblem(fields[1], f"{reprlib.repr(values[1])} is the model compared with")
    winner = values[2]
    share = SHARES.get(winner) if isinstance(winner, str) else None
    if share is None:
        valid = ", ".join(SHARES)
        raise FieldProblem(fields[2], f"expected one of {valid}, found {reprlib.repr(winner)}")
    return Comparison(first, second, share)
