"""What is memory's own: a share for each of several processes, and forgetting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.state.base import Ask, Limit
from app.state.memory import MemoryState


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


DAY = Limit("usd", "day", 1000, 1_000_500.0)
MINUTE = Limit("requests", "minute", 60)
AT_ONCE = Limit("parallel", "slots", 2)


def test_a_minute_flows_back_evenly() -> None:
    clock = Clock()
    state = MemoryState(clock=clock)
    for _ in range(60):
        assert not state.take([MINUTE], Ask(0, 0)).refused
    refused = state.take([MINUTE], Ask(0, 0))
    assert refused.readings[0].wait == 1.0
    clock.now += 10
    for _ in range(10):
        assert not state.take([MINUTE], Ask(0, 0)).refused
    assert state.take([MINUTE], Ask(0, 0)).refused
    clock.now -= 3_600  # a clock set back gives nothing and takes nothing
    assert state.take([MINUTE], Ask(0, 0)).refused
    clock.now += 1
    assert not state.take([MINUTE], Ask(0, 0)).refused


def test_a_share_is_of_what_was_left() -> None:
    state = MemoryState(share=4)
    state.know([(DAY, 600)])
    outcome = state.take([DAY], Ask(100, 0))
    assert outcome.readings[0][:3] == (700, 100, 700)
    assert state.take([DAY], Ask(1, 0)).refused
    assert state.take([MINUTE], Ask(0, 0)).readings[0].ceiling == 15
    assert state.take([AT_ONCE], Ask(0, 0)).readings[0].ceiling == 1, "at least one"


def test_what_is_remembered_of_limits_keeps_up() -> None:
    """A tuple of limits is looked up once; what it found may be outdated by what becomes known, and
    by counters that are forgotten."""
    clock = Clock()
    state, limits = MemoryState(share=4, clock=clock), (DAY, MINUTE)
    assert state.take(limits, Ask(1, 0)).readings[0].ceiling == 250
    state.know([(DAY, 600)])
    assert state.take(limits, Ask(1, 0)).readings[0][:3] == (602, 2, 700)
    for _ in range(2):
        state.settle("", limits, Ask(1, 0), Ask(1, 0))
    clock.now += 2 * 86_400
    state.take([], Ask(0, 0))
    assert not state._counters
    state.settle("", limits, Ask(1, 0), Ask(0, 0))
    assert not state._counters, "what nobody holds is not given back"
    assert state.take(limits, Ask(0, 0)).readings[0].used == 0


def test_a_share_of_what_is_overspent_is_nothing() -> None:
    state = MemoryState(share=2)
    state.know([(DAY, 1100)])
    assert state.take([DAY], Ask(0, 0)).refused


def test_what_is_over_is_forgotten_and_what_counts_is_not() -> None:
    clock = Clock()
    state = MemoryState(clock=clock)
    forever = Limit("usd", "all", 1000)
    state.take([DAY, MINUTE, forever], Ask(100, 0))
    state.take([AT_ONCE], Ask(0, 0))
    clock.now += 86_400
    state.take([Limit("usd", "next day", 1000, clock.now + 10)], Ask(1, 0))
    assert set(state._counters) == {"day", "all", "next day", "slots"}
    clock.now += 86_400
    state.take([], Ask(0, 0))
    assert set(state._counters) == {"all", "next day", "slots"}
    assert state.take([AT_ONCE], Ask(0, 0)).readings[0].used == 2


Steps = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 600), st.booleans()), min_size=1, max_size=60
)


@given(Steps, st.integers(1, 5))
def test_sums_add_up_whatever_the_order(steps: list[tuple[int, int, bool]], share: int) -> None:
    """At the end what is used is what was true; and no reservation is granted over the ceiling."""
    state = MemoryState(share=share)
    running: list[tuple[Ask, Ask]] = []
    spent = 0
    for number, (asked, true, ends) in enumerate(steps):
        ask = Ask(asked, 0)
        outcome = state.take([DAY, AT_ONCE], ask)
        day, at_once = outcome.readings
        if not outcome.refused:
            assert day.used <= day.ceiling
            assert at_once.used <= at_once.ceiling
            running.append((ask, Ask(true, 0)))
        if ends and running:
            ask, end = running.pop(number % len(running))
            state.settle("", [DAY, AT_ONCE], ask, end)
            spent += end.usd
    for ask, end in running:
        state.settle("", [DAY, AT_ONCE], ask, end)
        spent += end.usd
    seen = state.peek(DAY)
    assert seen is not None
    assert (seen.used, seen.held) == (spent, 0)
    assert state.peek(AT_ONCE) == (0, 0, max(2 // share, 1), 0)


async def test_a_sum_that_has_all_that_was_settled_here_counts_nothing_twice() -> None:
    state = MemoryState()
    day = Limit("usd", "day", 1000)
    await state.reserve("a", [day], Ask(500, 0))
    state.settle("a", [day], Ask(500, 0), Ask(300, 0))
    for told, used in ((400, 400), (350, 400)):
        await state.load([(day, told)], whole=True)
        seen = state.peek(day)
        assert seen is not None
        assert seen.used == used
