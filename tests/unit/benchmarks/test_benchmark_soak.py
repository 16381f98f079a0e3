"""When a soak is said to have held."""

from __future__ import annotations

import pytest

from benchmarks.living import Weight
from benchmarks.mixed import mixed
from benchmarks.soak import verdict


def weight(rss: float, descriptors: int = 80, tasks: int = 5, in_flight: int = 0) -> Weight:
    return Weight(rss, rss - 20, descriptors, 10, 12, tasks, 60_000, in_flight)


def samples(last: float) -> list[tuple[float, Weight]]:
    """An hour that begins with 200 MB, has 300 after five minutes and ends with so much."""
    at = [10.0 * number for number in range(1, 361)]
    return [(s, weight(200 if s < 300 else 300 if s < 3000 else last)) for s in at]


@pytest.mark.parametrize(
    ("last", "after", "met"),
    [
        (314, weight(314), True),
        (280, weight(280), True),
        (316, weight(316), False),
        (300, weight(300, in_flight=1), False),
        (300, weight(300, descriptors=85), False),
        (300, weight(300, tasks=6), False),
    ],
)
def test_verdict(last: float, after: Weight, met: bool) -> None:
    told = verdict(samples(last), weight(200), after, 60)
    assert told["rss_mb"] == [300, last]
    assert told["met"] is met


def test_the_traffic_is_mixed_and_the_same_for_the_same_seed() -> None:
    one, two = mixed(1), mixed(1)
    first = [next(one) for _ in range(300)]
    assert first == [next(two) for _ in range(300)]
    assert len({asked.kind for asked in first}) > 12
