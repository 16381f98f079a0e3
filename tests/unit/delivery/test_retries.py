"""Waits between tries, and how many tries there may be."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from app.delivery.retries import LoadBudget, decorrelated


@given(st.integers(), st.floats(0, 10), st.floats(0, 60), st.floats(0, 60))
def test_a_wait_is_within_its_bounds(seed: int, base: float, more: float, before: float) -> None:
    longest = base + more
    wait = decorrelated(Random(seed), base, longest, before)
    assert base <= wait <= longest or wait == longest
    assert wait <= max(before * 3, base)


def test_at_load_retries_add_their_share_and_no_more() -> None:
    now = 0.0
    budget = LoadBudget(lambda: now)
    sent = 0
    for _ in range(10_000):
        now += 0.001
        budget.deposit(0.2)
        sent += budget.withdraw()
    assert 2_000 <= sent <= 2_000 + 10 + 10


def test_with_little_traffic_some_can_always_be_sent() -> None:
    now = 0.0
    budget = LoadBudget(lambda: now)
    assert [budget.withdraw() for _ in range(12)] == [True] * 10 + [False] * 2
    now += 2
    assert [budget.withdraw() for _ in range(2)] == [True, False]


def test_what_is_saved_up_is_bounded() -> None:
    budget = LoadBudget(lambda: 0.0)
    for _ in range(100_000):
        budget.deposit(0.2)
    assert sum(budget.withdraw() for _ in range(1_000)) == 100
