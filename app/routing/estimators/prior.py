"""Stated qualities alone: for routes without a router artifact, and for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.routing.estimators.base import (
    BROAD_QUALITY,
    BROAD_SUPPORT,
    Candidate,
    Estimate,
    Neighbour,
    Query,
)

_STATED_SUPPORT = 50.0


class Prior:
    """The same estimate for every query."""

    reads_text = False

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        stated = [candidate.quality for candidate in candidates]
        self._estimate = Estimate(
            models=tuple(candidate.name for candidate in candidates),
            quality=np.array([BROAD_QUALITY if q is None else q for q in stated]),
            support=np.array([BROAD_SUPPORT if q is None else _STATED_SUPPORT for q in stated]),
            output_tokens=np.full(len(stated), np.nan),
            novelty=1.0,
        )

    def estimate(self, query: Query) -> Estimate:
        return self._estimate

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        return ()
