"""What is scored: the prompts of one source, what each model of a pool did with them, and which two
models make the pair of strong and weak. It knows nothing of routers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.outcomes import OutcomeTable

Array = NDArray[np.float64]

FEWEST_ROWS = 30
NEARLY_ALL = 0.95
"""A model belongs to a pool by default if it answered this part of the source's prompts; prompts
that it did not answer are then left out.
"""
WORTH_TRYING = 0.5
"""A weak model has at least this part of the strong one's quality: below, cheap is no bargain."""


class Unscorable(DataError):
    """Outcomes that can't be scored with these models; the message says why."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """Quality (n, m) that a method predicts for each prompt and model, and its lower bound where
    the method has one.
    """

    quality: Array
    low: Array | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """n prompts of one source by m models, no cell missing.

    `scores` in [0, 1]; `costs` in dollars, all nan where they are not known; `expected_costs` what
    can be known of them before the answer; `strong` and `weak` are columns. `rows` are those of the
    table it was made from.
    """

    source: str
    models: tuple[str, ...]
    strong: int
    weak: int
    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: Array
    costs: Array
    expected_costs: Array
    rows: NDArray[np.intp]
    left_out: Mapping[str, int] = field(default_factory=dict)
    models_left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def priced(self) -> bool:
        return bool(np.isfinite(self.costs).all())

    @property
    def strong_scores(self) -> Array:
        return self.scores[:, self.strong]

    @property
    def weak_scores(self) -> Array:
        return self.scores[:, self.weak]

    def gain(self, predicted: Predicted) -> Array:
        """Predicted advantage of the strong model over the weak one (n,)."""
        return predicted.quality[:, self.strong] - predicted.quality[:, self.weak]


@dataclass(frozen=True, slots=True)
class Pool:
    """Which models of a source are compared, and on which rows of the table."""

    models: tuple[str, ...]
    rows: NDArray[np.intp]
    incomplete: int
    dropped: Mapping[str, str]


def choose_pool(
    table: OutcomeTable,
    rows: NDArray[np.intp],
    candidates: Sequence[str],
    required: Sequence[str] = (),
) -> Pool:
    """Which of the candidates can be compared, and the rows that all of these answered.

    In are the `required` models, and those with outcomes of nearly all rows; but where two or more
    have costs, only these: money can't be compared with the others. Raises Unscorable where two
    models or enough rows are not to be had.
    """
    if len(rows) < FEWEST_ROWS:
        raise Unscorable(f"{len(rows)} new prompts; at least {FEWEST_ROWS} are needed")
    scored = ~np.isnan(table.scores[rows])
    paid = ~np.isnan(table.costs_usd[rows]) & scored
    columns = {
        name: table.columns[name]
        for name in dict.fromkeys((*required, *candidates))
        if name in table.columns and scored[:, table.columns[name]].any()
    }
    absent = [name for name in required if name not in columns]
    if absent:
        raise Unscorable(f"it has no outcomes of {', '.join(absent)}")
    part = {name: float(scored[:, at].mean()) for name, at in columns.items()}
    dropped = {
        name: f"answered {part[name]:.0%} of the prompts"
        for name in columns
        if part[name] < NEARLY_ALL and name not in required
    }
    pool = [name for name in columns if name not in dropped]
    priced = [name for name in pool if _priced(scored, paid, columns[name])]
    if len(priced) >= 2 and set(required) <= set(priced):
        dropped |= {name: "no costs" for name in pool if name not in priced}
        pool = priced
    if len(pool) < 2:
        raise Unscorable(f"{len(pool)} of its models can be scored; two are needed")
    chosen = [columns[name] for name in pool]
    complete = scored[:, chosen].all(axis=1)
    if pool == priced:
        complete &= paid[:, chosen].all(axis=1)
    if complete.sum() < FEWEST_ROWS:
        raise Unscorable(
            f"{int(complete.sum())} new prompts were answered by all of {_few(pool)}; at least "
            f"{FEWEST_ROWS} are needed"
        )
    return Pool(tuple(pool), rows[complete], int((~complete).sum()), dropped)


def choose_pair(scores: Array, costs: Array) -> tuple[int, int]:
    """Columns of the strongest model and of a cheap one beside it.

    Weak is the cheapest other model with at least half the strongest one's mean score; without
    costs, the one of these with the lowest score; and without any such, the best of the others.
    """
    quality = scores.mean(axis=0)
    strong = int(np.argmax(quality))
    others = [at for at in range(len(quality)) if at != strong]
    able = [at for at in others if quality[at] >= WORTH_TRYING * quality[strong]]
    if not able:
        return strong, max(others, key=lambda at: float(quality[at]))
    price = costs.mean(axis=0) if np.isfinite(costs).all() else quality
    return strong, min(able, key=lambda at: (float(price[at]), -float(quality[at])))


def build_trial(
    table: OutcomeTable,
    pool: Pool,
    *,
    source: str,
    expected_costs: Array,
    strong: str | None = None,
    weak: str | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Trial:
    """The trial of a pool; the pair is chosen where it is not named. `expected_costs` is (n, m)."""
    columns = [table.columns[name] for name in pool.models]
    scores = table.scores[pool.rows][:, columns].astype(np.float64)
    costs = table.costs_usd[pool.rows][:, columns].astype(np.float64)
    if not np.isfinite(costs).all() or not costs.any():
        costs = np.full_like(costs, np.nan)
    pair = choose_pair(scores, costs)
    if strong is not None and weak is not None:
        pair = pool.models.index(strong), pool.models.index(weak)
    return Trial(
        source=source,
        models=pool.models,
        strong=pair[0],
        weak=pair[1],
        prompts=tuple(table.prompts[row] for row in pool.rows),
        tasks=tuple(table.tasks[row] for row in pool.rows),
        scores=scores,
        costs=costs,
        expected_costs=expected_costs,
        rows=pool.rows,
        left_out={**(left_out or {}), "incomplete": pool.incomplete},
        models_left_out=pool.dropped,
    )


def _priced(scored: NDArray[np.bool_], paid: NDArray[np.bool_], column: int) -> bool:
    """Whether nearly all answers of a model have a cost."""
    return bool(paid[:, column].sum() >= NEARLY_ALL * max(1, scored[:, column].sum()))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3}"
