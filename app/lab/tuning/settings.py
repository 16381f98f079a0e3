"""What a tuning run may be told, and which rows it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.outcomes import OutcomeTable
from app.routing.model_names import canonical_name

Objective = Literal["task", "expert", "classifier"]
OBJECTIVES: tuple[Objective, ...] = ("task", "expert", "classifier")

FEWEST_ROWS = 16
CLASSIFIER_STEPS = 2_000
CLASSIFIER_BATCH = 16
CONTRASTIVE_BATCH = 32


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """Defaults of `steps`, `epochs` and `batch` depend on the objective: the classifier takes
    RouteLLM's 2,000 steps of 16 rows, contrastive tuning one epoch in batches of 32.

    `strong` and `weak` name the pair of the `expert` objective, and give a classifier its
    win/tie/loss head. `threads` limits torch. Longer texts than `max_tokens` lose their middle, as
    in serving.
    """

    objective: Objective = "classifier"
    source: str = "all-MiniLM-L6-v2"
    strong: str | None = None
    weak: str | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float = 2e-5
    head_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    margin: float = 0.2
    max_rows: int | None = None
    max_tokens: int = 128
    seed: int = 0
    threads: int = 2

    @property
    def tail_tokens(self) -> int:
        """A quarter of the window, as in the shipped encoder."""
        return self.max_tokens // 4

    @property
    def batch_size(self) -> int:
        default = CLASSIFIER_BATCH if self.objective == "classifier" else CONTRASTIVE_BATCH
        return self.batch or default

    def steps_for(self, rows: int) -> int:
        """Steps asked for, or those of the epochs asked for, or the objective's default."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None and self.objective == "classifier":
            return CLASSIFIER_STEPS
        return max(1, (self.epochs or 1) * rows // self.batch_size)

    def pair_columns(self, table: OutcomeTable) -> tuple[int, int] | None:
        """Columns of the strong and the weak model; None if no pair is named. DataError if half a
        pair is, or one that the table lacks.
        """
        if self.strong is None and self.weak is None:
            return None
        if self.strong is None or self.weak is None:
            raise DataError("a pair needs both its strong and its weak model; only one is named")
        high, low = canonical_name(self.strong), canonical_name(self.weak)
        missing = [name for name in (high, low) if name not in table.columns]
        if missing:
            raise DataError(
                f"no outcomes of: {', '.join(missing)}; the table has {', '.join(table.models)}"
            )
        if high == low:
            raise DataError(f"strong and weak are the same model, {high}; name two")
        return table.columns[high], table.columns[low]


def sample(rows: NDArray[np.intp], settings: TuneSettings) -> NDArray[np.intp]:
    """At most `max_rows` of these, by seed, in their order. DataError where too few are left."""
    if settings.max_rows is not None and len(rows) > settings.max_rows:
        chosen = np.random.default_rng(settings.seed).permutation(rows)[: settings.max_rows]
        rows = np.sort(chosen)
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            f"{len(rows)} rows to tune on with the objective {settings.objective!r}; "
            f"at least {FEWEST_ROWS} are needed"
        )
    return rows
