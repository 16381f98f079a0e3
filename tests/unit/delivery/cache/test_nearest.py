"""Similar questions are found in their group alone, and neither answers nor vectors pile up."""

from __future__ import annotations

import numpy as np
import pytest

from app.delivery.cache.entry import Entry
from app.delivery.cache.memory import Memory
from app.delivery.cache.nearest import Asked, Nearest, Vector

SAME = b"signatur"


def vector(angle: float) -> Vector:
    return np.array([np.cos(angle), np.sin(angle), 0], dtype=np.float32)


def asked(number: int, signature: bytes = SAME) -> Asked:
    return Asked(number.to_bytes(16, "big"), signature)


def found(nearest: Nearest, group: bytes, angle: float, least: float = 0.9) -> list[int]:
    return [
        int.from_bytes(key, "big") for key, _ in nearest.like(group, vector(angle), SAME, least)
    ]


def test_the_most_alike_first_and_only_with_the_same_signature() -> None:
    nearest = Nearest(100)
    for number, angle in enumerate((0.0, 0.1, 0.2, 1.5)):
        nearest.add(b"g", asked(number), vector(angle), 1)
    nearest.add(b"g", asked(9, b"other..."), vector(0.2), 1)
    nearest.add(b"h", asked(8), vector(0.2), 1)
    assert found(nearest, b"g", 0.21) == [2, 1, 0]
    assert found(nearest, b"g", 0.21, least=0.99) == [2, 1]
    assert found(nearest, b"none", 0.21) == []
    assert not nearest.knows(b"none", 0)


def test_a_known_question_is_one() -> None:
    nearest = Nearest(100)
    for at in (5.0, 5.0, 4.0):
        nearest.hear(b"g", asked(1), vector(0), at)
    nearest.add(b"g", asked(1), vector(0), 7.0)
    assert (len(nearest), nearest.heard_until(b"g"), nearest.heard_until(b"h")) == (1, 5.0, 0.0)


def test_groups_not_looked_into_go_first() -> None:
    nearest = Nearest(3)
    groups = (b"a", b"b", b"c", b"d")
    for number, group in enumerate(groups[:3]):
        nearest.add(group, asked(number), vector(0), 1)
    assert found(nearest, b"a", 0) == [0]
    nearest.add(b"d", asked(9), vector(0), 1)
    assert [nearest.knows(group, 0) for group in groups] == [True, False, True, True]
    assert len(nearest) == 3


def test_a_large_group_forgets_its_older_half() -> None:
    nearest = Nearest(10)
    for number in range(11):
        nearest.add(b"g", asked(number), vector(number / 100), 1)
    assert len(nearest) == 6
    assert sorted(found(nearest, b"g", 0.1)) == [5, 6, 7, 8, 9, 10]


def test_what_is_too_old_to_be_given_again_is_forgotten() -> None:
    nearest = Nearest(100)
    for number in range(40):  # more than are tried, and the most alike
        nearest.add(b"g", asked(number), vector(0), number)
    nearest.add(b"g", asked(50), vector(0.1), 50)
    nearest.add(b"g", asked(3), vector(0), 51)  # it was asked again
    nearest.add(b"h", asked(60), vector(0), 20)
    assert nearest.knows(b"g", 39)
    assert found(nearest, b"g", 0) == [3, 50]
    assert len(nearest) == 3
    assert found(nearest, b"g", 0.1) == [50, 3]
    assert not nearest.knows(b"h", 20)
    assert len(nearest) == 2
    assert not nearest.knows(b"g", 51)
    assert len(nearest) == 0
    nearest.add(b"g", asked(3), vector(0), 60)
    assert found(nearest, b"g", 0) == [3]


def entry(size: int) -> Entry:
    return Entry("whole", bytes(size), "small", None, 0.0)


def test_memory_is_bounded_in_bytes() -> None:
    memory = Memory(max_entries=1000, max_bytes=64 * 1024)
    for number in range(100):
        memory.put(number.to_bytes(16, "big"), entry(3_000))
        memory.get((0).to_bytes(16, "big"))
    assert memory.bytes <= 64 * 1024
    assert 15 < len(memory) < 20
    assert memory.get((0).to_bytes(16, "big")) is not None
    assert memory.get((1).to_bytes(16, "big")) is None
    assert memory.get((99).to_bytes(16, "big")) is not None


@pytest.mark.parametrize(("size", "kept"), [(4_096, True), (4_097, False)])
def test_what_is_too_large_is_not_kept(size: int, kept: bool) -> None:
    memory = Memory(max_entries=1000, max_bytes=64 * 1024)
    memory.put(b"k", entry(10))
    memory.put(b"k", entry(size))
    found = memory.get(b"k")
    assert found is not None
    assert (len(found.body) == size) is kept


def test_memory_is_bounded_in_number() -> None:
    memory = Memory(max_entries=2, max_bytes=10**6)
    for key in (b"a", b"b", b"a", b"c"):
        memory.put(key, entry(1))
    assert [memory.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    memory.drop(b"a")
    memory.drop(b"a")
    assert memory.bytes == entry(1).size
