"""The breaker, step by step on a clock of our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.health import Breaker, BreakerSettings, Counts, Window
from app.delivery.outliers import stands_out

SETTINGS = BreakerSettings(
    window_seconds=10, min_requests=4, error_ratio=0.5, slow_seconds=1, slow_ratio=0.75,
    open_seconds=5, max_open_seconds=15, probes=2,
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, settings: BreakerSettings | None = SETTINGS) -> None:
        self.clock = Clock()
        self.changes: list[tuple[str, str]] = []
        self.breaker = Breaker(settings, self.clock, lambda *change: self.changes.append(change))

    def send(self, *, good: bool = True, slow: bool = False) -> None:
        assert self.breaker.admits
        probe = self.breaker.enter()
        self.breaker.leave("ok" if good else "failed", slow=slow, probe=probe)

    def fail(self, times: int = 4) -> None:
        for _ in range(times):
            self.send(good=False)


def test_it_opens_at_the_ratio_and_not_before_the_least_count() -> None:
    world = World()
    world.fail(3)
    assert world.breaker.state == "closed"
    world.send(good=False)
    assert world.breaker.state == "open"
    assert not world.breaker.admits
    assert world.changes == [("open", "errors")]


def test_it_stays_closed_below_the_ratio() -> None:
    world = World()
    for _ in range(20):
        world.send()
        world.send()
        world.send(good=False)
    assert world.breaker.state == "closed"


def test_slow_answers_open_it_as_well() -> None:
    world = World()
    for slow in (False, True, True, True):
        world.send(slow=slow)
    assert world.changes == [("open", "slow")]


def test_what_is_long_ago_counts_no_more() -> None:
    world = World()
    world.fail(3)
    world.clock.now += 11
    world.fail(3)
    assert world.breaker.state == "closed"


def test_what_says_nothing_counts_nothing() -> None:
    world = World()
    for _ in range(10):
        world.breaker.leave("unknown")
    assert world.breaker.window.counts() == Counts()


def test_one_probe_at_a_time_and_some_in_a_row_close_it() -> None:
    world = World()
    world.fail()
    world.clock.now += 5
    assert world.breaker.state == "half_open"
    assert world.breaker.enter()
    assert not world.breaker.admits
    assert not world.breaker.enter()
    world.breaker.leave("ok", probe=True)
    assert world.breaker.state == "half_open"
    world.send()
    assert world.breaker.state == "closed"
    assert [state for state, _ in world.changes] == ["open", "half_open", "half_open", "closed"]
    world.fail(3)
    assert world.breaker.state == "closed", "what was before it recovered is forgotten"


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    world = World()
    world.fail()
    world.clock.now += 5
    assert world.breaker.enter()
    world.breaker.leave("unknown", probe=True)
    assert world.breaker.admits
    assert world.breaker.state == "half_open"


def test_each_time_it_does_not_recover_it_is_left_alone_for_longer() -> None:
    world = World()
    world.fail()
    spans = []
    for _ in range(4):
        spans.append((world.breaker.until or 0) - world.clock.now)
        world.clock.now = world.breaker.until or 0
        world.send(good=False)
    assert spans == [5, 10, 15, 15]


def test_after_it_has_recovered_it_begins_short_again() -> None:
    world = World()
    world.fail()
    for good in (False, True, True):
        world.clock.now = max(world.breaker.until or 0, world.clock.now)
        world.send(good=good)
    assert world.breaker.state == "closed"
    world.fail()
    assert world.breaker.until == world.clock.now + 5


def test_one_that_is_asked_all_the_same_and_answers_is_probed_at_once() -> None:
    world = World()
    world.fail()
    assert not world.breaker.enter()
    world.breaker.leave("ok")
    assert world.breaker.state == "half_open"
    assert world.breaker.admits


def test_what_others_tell_opens_it_for_as_long_as_the_settings_allow() -> None:
    world = World()
    world.breaker.open_until(world.clock.now + 1_000)
    assert (world.breaker.state, world.breaker.until) == ("open", world.clock.now + 15)
    assert world.changes == [("open", "told")]


def test_without_settings_it_never_opens() -> None:
    world = World(None)
    world.fail(100)
    world.breaker.open_until(2_000)
    world.breaker.open("outlier")
    assert world.breaker.state == "closed"


def test_other_settings_keep_what_is_open() -> None:
    world = World()
    world.fail()
    world.breaker.configure(BreakerSettings(open_seconds=7))
    assert world.breaker.state == "open"
    world.breaker.configure(None)
    assert world.breaker.state == "closed"


Step = Callable[[World], None]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "failed", "unknown"]),
            st.booleans(),
            st.floats(min_value=0, max_value=8),
            st.booleans(),
        ),
        max_size=120,
    )
)
def test_whatever_happens_it_is_never_shut_for_good(
    steps: list[tuple[str, bool, float, bool]],
) -> None:
    """After its longest time it lets a request through, and as many good ones as it asks for close
    it; the window never counts more than was sent."""
    world, sent = World(), 0
    running: list[bool] = []
    for verdict, slow, seconds, stays in steps:
        world.clock.now += seconds
        if world.breaker.admits:
            running.append(world.breaker.enter())
            sent += 1
        if running and not stays:
            world.breaker.leave(verdict, slow=slow, probe=running.pop())  # type: ignore[arg-type]
        counts = world.breaker.window.counts()
        assert counts.failed <= counts.total <= sent
        assert (world.breaker.until is None) == (world.breaker.state == "closed")
        assert (world.breaker.until or 0) <= world.clock.now + 15
    for probe in running:
        world.breaker.leave("unknown", probe=probe)
    world.clock.now += 15
    assert world.breaker.admits
    for _ in range(2):
        world.send()
    assert world.breaker.state == "closed"


@given(
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60),
    st.floats(1, 60),
)
def test_a_window_counts_what_lies_within_it(
    events: list[tuple[float, bool]], seconds: float
) -> None:
    """Exactly up to a tenth of it, at either side."""
    clock = Clock()
    window, sent = Window(seconds, clock), []
    for gap, failed in events:
        clock.now += gap
        window.add(failed=failed, slow=False)
        sent.append(clock.now)
    total = window.counts().total
    surely = sum(at > clock.now - 0.9 * seconds + 1e-6 for at in sent)
    perhaps = sum(at > clock.now - 1.1 * seconds - 1e-6 for at in sent)
    assert surely <= total <= perhaps


@pytest.mark.parametrize(
    ("own", "others", "out", "expected"),
    [
        (Counts(20, 6), [Counts(40, 2)], 0, True),
        (Counts(20, 3), [Counts(40, 0)], 0, False),  # too few to matter
        (Counts(20, 6), [Counts(40, 6)], 0, False),  # the others fail as well
        (Counts(5, 5), [Counts(40, 0)], 0, False),  # too few to tell
        (Counts(20, 20), [Counts(5, 0)], 0, False),  # the others too few
        (Counts(20, 6), [Counts(40, 2)], 1, False),  # the other one is out
        (Counts(20, 6), [Counts(40, 2)] * 2, 0, True),
        (Counts(20, 6), [Counts(40, 2)] * 2, 1, False),  # one of three would stay
        (Counts(20, 6), [Counts(40, 2)] * 3, 1, True),
        (Counts(20, 6), [Counts(40, 2)] * 3, 2, False),
    ],
)
def test_an_outlier_is_put_out_while_half_of_them_stay(
    own: Counts, others: list[Counts], out: int, expected: bool
) -> None:
    assert stands_out(own, others, out=out, least=10) is expected
