"""What fitting a kind of estimator takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from app.lab.ground import Advance, Ground


@dataclass(frozen=True, slots=True)
class FittedMethod:
    """What a router directory holds of its kind: `arrays` become files, `settings` go into the
    manifest.
    """

    kind: str
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads_text: bool = False


class Fit(Protocol):
    """Raises DataError where the outcomes do not suffice for the kind. `advance` counts rows, each
    once.
    """

    def __call__(self, ground: Ground, advance: Advance | None = None) -> FittedMethod: ...
