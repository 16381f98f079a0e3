"""Panels: groups of prompts whose models were scored side by side, and what set their scores apart.

A difference between two models rests on prompts that both answered. So within a panel each row's
scores are taken apart: what is common to its models, which says how easy the prompt is, and how
models depart from that. The departures of many models are few things at a time (strong against
weak, one family's bent), so they are summed up by the leading singular vectors; of two models, one
vector is all there is, and it is the gain of one over the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.outcomes import OutcomeTable
from app.routing.estimators.base import Array

FEWEST_ROWS = 50
SIDE_BY_SIDE = 0.5
"""A model belongs to a panel if it answered this part of the prompts."""

LARGEST_PANELS = 8
MOST_FACTORS = 6


@dataclass(frozen=True, slots=True)
class Panel:
    """`rows` (n,) and `columns` (m,) of a table; `means` (m,); `directions` (m, k) orthonormal.

    `factors` (n, 1 + k): the mean departure of the row's models from their own means, 0 for a row
    of win rates, then the row's place along each direction. A missing score counts as no departure.
    """

    name: str
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    means: Array
    directions: Array
    factors: Array

    @property
    def loadings(self) -> Array:
        """(m, 1 + k): a model's score is its mean and this times the factors, and the rest."""
        return np.hstack([np.ones((len(self.columns), 1)), self.directions])

    def rest(self, table: OutcomeTable) -> Array:
        """(n, m): what the factors leave of the departures; 0 where there is no score."""
        scores = table.scores[np.ix_(self.rows, self.columns)].astype(np.float64)
        left = scores - self.means - self.factors @ self.loadings.T
        return np.where(np.isnan(scores), 0.0, left)


def find_panels(table: OutcomeTable, most_factors: int = MOST_FACTORS) -> list[Panel]:
    """The largest panels first. Each source proposes its models; any row that most of them answered
    is in, whatever its source. A panel whose models are all in larger ones is left out.
    """
    known = ~np.isnan(table.scores)
    sources = np.array(table.sources)
    proposed: dict[tuple[int, ...], list[str]] = {}
    for source in sorted(set(table.sources)):
        often = np.flatnonzero(known[sources == source].mean(axis=0) >= SIDE_BY_SIDE)
        if len(often) >= 2:
            proposed.setdefault(tuple(often.tolist()), []).append(source)
    sized = []
    for proposal, names in proposed.items():
        columns = np.array(proposal, dtype=np.intp)
        answered = known[:, columns].sum(axis=1)
        rows = np.flatnonzero((answered >= 2) & (answered >= SIDE_BY_SIDE * len(columns)))
        if len(rows) >= FEWEST_ROWS:
            sized.append((rows, columns, "+".join(names)))
    sized.sort(key=lambda each: (-len(each[0]), -len(each[1]), each[2]))
    panels: list[Panel] = []
    covered: set[int] = set()
    for rows, columns, name in sized:
        if len(panels) < LARGEST_PANELS and not covered.issuperset(columns):
            covered.update(columns)
            panels.append(make_panel(table, name, rows, columns, most_factors))
    return panels


def make_panel(
    table: OutcomeTable,
    name: str,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    most_factors: int,
) -> Panel:
    """The panel of these rows, each of which two of the columns answered. A column that none of
    them has is left out.
    """
    asked = np.array(columns, dtype=np.intp)
    present = asked[(~np.isnan(table.scores[np.ix_(rows, asked)])).any(axis=0)]
    scores = table.scores[np.ix_(rows, present)].astype(np.float64)
    known = ~np.isnan(scores)
    means = np.nanmean(scores, axis=0)
    departures = np.where(known, scores - means, 0.0)
    common = departures.sum(axis=1) / known.sum(axis=1)
    own = np.where(known, departures - common[:, None], 0.0)
    # Win rates say who is better and not how easy a prompt is.
    common[table.relative[rows]] = 0.0
    _, _, right = np.linalg.svd(own.T @ own)
    count = min(len(present) - 1, most_factors)
    directions = right[:count].T
    # A singular vector's sign is arbitrary: fix it, so that the same rows give the same bytes.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(count)])
    factors = np.hstack([common[:, None], own @ directions])
    return Panel(name, rows, present, means, directions, factors)
