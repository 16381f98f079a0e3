"""The known prompts, without their text: where each came from and what each model scored on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Ids are read from their file when a neighbour is first explained, not before."""

    scores: NDArray[np.uint8]
    task_codes: NDArray[np.uint16]
    tasks: Sequence[str]
    ids_file: Path

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.ids_file.read_text(encoding="utf-8").splitlines())

    def id(self, row: int) -> str:
        return self.ids[row]

    def task(self, row: int) -> str:
        return self.tasks[int(self.task_codes[row])]
