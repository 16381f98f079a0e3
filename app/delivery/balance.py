"""Which of a model's deployments is asked first, and in what order the others would be."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

from app.catalog.model import Balance

_EXPLORE = 0.05
"""Share of choices by latency that are made by weight instead: who was slow may be so no more."""


class Place(Protocol):
    """What an order is made by."""

    priority: int
    weight: float
    in_flight: int

    @property
    def failing(self) -> bool:
        """It fails as often as not, lately: then it looks free and quick, or not yet known."""
        ...

    def latency(self, *, stream: bool) -> float | None:
        """Seconds to the first token (or to the whole answer), lately; None if not known."""
        ...


P = TypeVar("P", bound=Place)


def ordered(places: Sequence[P], how: Balance, random: Random, *, stream: bool) -> Sequence[P]:
    """All of them: lower priorities first, and among equals by the way to balance."""
    if len(places) < 2:
        return places
    if how == "least-latency" and random.random() < _EXPLORE:
        how = "weighted"

    def rank(place: P) -> tuple[float, bool, bool, float, float]:
        # Sorted by -log(u)/weight the order is a draw without replacement by weight.
        draw = random.expovariate(place.weight) if place.weight else 0.0
        first, failing = 0.0, how != "weighted" and place.failing
        if how == "least-busy":
            first = (place.in_flight + 1) / (place.weight or 1.0)
        elif how == "least-latency":
            # Not known comes first: it will be.
            first = place.latency(stream=stream) or 0.0
        return place.priority, not place.weight, failing, first, draw

    return sorted(places, key=rank)
