"""Which deployment is asked first, with a generator of our own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from app.delivery.balance import ordered


@dataclass
class Place:
    name: str
    weight: float = 1.0
    priority: int = 0
    in_flight: int = 0
    seconds: float | None = None
    failing: bool = False

    def latency(self, *, stream: bool) -> float | None:
        return self.seconds


def firsts(places: list[Place], how: str, draws: int = 4_000) -> Counter[str]:
    random = Random(7)
    return Counter(
        ordered(places, how, random, stream=True)[0].name  # type: ignore[arg-type]
        for _ in range(draws)
    )


def test_weights_are_shares() -> None:
    shares = firsts([Place("a", 3), Place("b", 1)], "weighted")
    assert shares["a"] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_what_weighs_nothing_comes_last() -> None:
    for how in ("weighted", "least-busy", "least-latency"):
        places = [Place("drained", 0, in_flight=0, seconds=0.1), Place("b", in_flight=9, seconds=9)]
        assert firsts(places, how, 200) == {"b": 200}


def test_a_lower_priority_comes_first_whatever_the_balance() -> None:
    for how in ("weighted", "least-busy", "least-latency"):
        places = [Place("spare", 100, 1, 0, 0.1), Place("main", 1, 0, 50, 9.0)]
        order = [one.name for one in ordered(places, how, Random(1), stream=True)]  # type: ignore[arg-type]
        assert order == ["main", "spare"]


def test_who_fails_looks_neither_free_nor_quick() -> None:
    """It holds no request for long, and no latency of it is known."""
    for how in ("least-busy", "least-latency"):
        places = [Place("broken", failing=True), Place("well", in_flight=9, seconds=9.0)]
        assert firsts(places, how)["well"] >= 0.95 * 4_000


def test_the_least_busy_for_its_weight() -> None:
    assert firsts([Place("a", 1, in_flight=2), Place("b", 1, in_flight=1)], "least-busy", 100) == {
        "b": 100
    }
    assert firsts([Place("a", 4, in_flight=3), Place("b", 1, in_flight=1)], "least-busy", 100) == {
        "a": 100
    }


def test_equally_busy_ones_take_turns() -> None:
    assert firsts([Place("a"), Place("b")], "least-busy")["a"] == pytest.approx(2_000, abs=150)


def test_the_soonest_but_for_some_exploring() -> None:
    shares = firsts([Place("slow", seconds=2.0), Place("quick", seconds=0.2)], "least-latency")
    assert shares["slow"] / 4_000 == pytest.approx(0.025, abs=0.01)


def test_one_that_is_not_known_is_asked_first() -> None:
    shares = firsts([Place("known", seconds=0.1), Place("new")], "least-latency")
    assert shares["new"] / 4_000 > 0.95
