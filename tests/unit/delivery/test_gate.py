"""Load shedding: who gets in, who waits, who is turned away, and that every place comes back."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from app.delivery.gate import Gate
from app.errors import Overloaded
from app.telemetry.metrics import Metrics


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Guest:
    """A request that stays inside until it is told to go."""

    def __init__(self, gate: Gate, size: int = 0) -> None:
        self.go = asyncio.Event()
        self.inside = False
        self.task = asyncio.ensure_future(self._visit(gate, size))

    async def _visit(self, gate: Gate, size: int) -> None:
        async with gate.place(size):
            self.inside = True
            await self.go.wait()


def shed(metrics: Metrics, reason: str) -> float:
    return (
        metrics.registry.get_sample_value("pointsman_shed_requests_total", {"reason": reason}) or 0
    )


async def test_the_queue_is_served_in_order_and_its_end_is_turned_away() -> None:
    metrics = Metrics(CollectorRegistry())
    gate = Gate(1, queue=2, seconds=30, metrics=metrics)
    guests = [Guest(gate) for _ in range(3)]
    await settle()
    assert [guest.inside for guest in guests] == [True, False, False]
    assert metrics.registry.get_sample_value("pointsman_requests_queued") == 2
    with pytest.raises(Overloaded) as caught:
        async with gate.place():
            pass
    assert dict(caught.value.headers) == {"retry-after": "30"}
    assert shed(metrics, "queue_full") == 1
    for place, guest in enumerate(guests):
        assert [one.inside for one in guests] == [True] * (place + 1) + [False] * (2 - place)
        guest.go.set()
        await settle()
    assert (gate.inside, gate.queued) == (0, 0)
    assert metrics.registry.get_sample_value("pointsman_requests_queued") == 0


async def test_who_waits_too_long_is_turned_away() -> None:
    metrics = Metrics(CollectorRegistry())
    gate = Gate(1, queue=5, seconds=0.01, metrics=metrics)
    first = Guest(gate)
    await settle()
    with pytest.raises(Overloaded):
        async with gate.place():
            pass
    assert shed(metrics, "queue_timeout") == 1
    first.go.set()
    await first.task
    assert (gate.inside, gate.queued) == (0, 0)


async def test_who_leaves_the_queue_leaves_no_hole() -> None:
    gate = Gate(1, queue=5, seconds=30)
    first, second, third = Guest(gate), Guest(gate), Guest(gate)
    await settle()
    second.task.cancel()
    await settle()
    assert gate.queued == 1
    first.go.set()
    await settle()
    assert third.inside
    third.go.set()
    await third.task
    assert gate.inside == 0


async def test_who_leaves_just_as_its_turn_comes_hands_it_on() -> None:
    gate = Gate(1, queue=5, seconds=30)
    first, second, third = Guest(gate), Guest(gate), Guest(gate)
    await settle()
    first.go.set()
    await asyncio.sleep(0)  # it leaves, and the second one's turn has come: it does not know yet
    second.task.cancel()
    await settle()
    assert third.inside
    third.go.set()
    await third.task
    assert (gate.inside, gate.queued) == (0, 0)


async def test_who_hangs_up_in_the_moment_that_a_place_comes_free_is_passed_over() -> None:
    gate = Gate(1, queue=5, seconds=30)
    first, second, third = Guest(gate), Guest(gate), Guest(gate)
    await settle()
    first.go.set()
    second.task.cancel()  # it is not called before the first one leaves
    await settle()
    assert third.inside
    third.go.set()
    await third.task
    assert (gate.inside, gate.queued) == (0, 0)
    assert second.task.cancelled()
    await first.task


async def test_other_bounds_pass_over_who_is_just_hanging_up() -> None:
    gate = Gate(1, queue=5, seconds=30)
    first, second = Guest(gate), Guest(gate)
    await settle()
    second.task.cancel()
    gate.configure(None, queue=5, queue_bytes=100, seconds=30)
    first.go.set()
    await settle()
    assert (gate.inside, gate.queued) == (0, 0)
    assert second.task.cancelled()


async def test_a_failure_inside_gives_the_place_back() -> None:
    gate = Gate(1, queue=0, seconds=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            async with gate.place():
                raise RuntimeError
    assert gate.inside == 0


async def test_without_a_limit_everybody_gets_in() -> None:
    gate = Gate(None, queue=0, seconds=1)
    guests = [Guest(gate) for _ in range(100)]
    await settle()
    assert gate.inside == 100
    for guest in guests:
        guest.go.set()
    await settle()
    assert gate.inside == 0


async def test_other_bounds_hold_for_those_who_wait_too() -> None:
    gate = Gate(1, queue=5, seconds=30)
    guests = [Guest(gate) for _ in range(4)]
    await settle()
    gate.configure(3, queue=5, queue_bytes=100, seconds=30)
    await settle()
    assert [guest.inside for guest in guests] == [True, True, True, False]
    gate.configure(1, queue=5, queue_bytes=100, seconds=30)
    for guest in guests[:2]:
        guest.go.set()
    await settle()
    assert (guests[3].inside, gate.inside) == (False, 1)
    guests[2].go.set()
    await settle()
    assert guests[3].inside
    guests[3].go.set()
    await guests[3].task
    assert (gate.inside, gate.queued) == (0, 0)


async def test_nobody_waits_longer_than_its_request_may_take() -> None:
    metrics = Metrics(CollectorRegistry())
    gate = Gate(1, queue=5, seconds=30, metrics=metrics)
    first = Guest(gate)
    await settle()
    for left in (0.01, 0.0, -1.0):
        with pytest.raises(Overloaded):
            async with asyncio.timeout(5), gate.place(seconds=left):
                pass
    assert shed(metrics, "queue_timeout") == 3
    first.go.set()
    await first.task
    assert (gate.inside, gate.queued) == (0, 0)


async def test_the_queue_is_bounded_by_what_it_holds_too() -> None:
    metrics = Metrics(CollectorRegistry())
    gate = Gate(1, queue=5, queue_bytes=100, seconds=30, metrics=metrics)
    guests = [Guest(gate, size=1_000)]  # who need not wait is not weighed
    await settle()
    guests += [Guest(gate, size=60), Guest(gate, size=40)]
    await settle()
    with pytest.raises(Overloaded):
        async with gate.place(1):
            pass
    assert shed(metrics, "queue_full") == 1
    guests[1].task.cancel()
    await settle()
    guests.append(Guest(gate, size=60))
    await settle()
    assert gate.queued == 2
    for guest in guests:
        guest.go.set()
    await settle()
    assert [guest.inside for guest in guests] == [True, False, True, True]
    assert (gate.inside, gate.queued) == (0, 0)
    async with gate.place():
        with pytest.raises(Overloaded):
            async with gate.place(101):  # it would never find room
                pass
