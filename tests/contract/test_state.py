"""What every state promises: all limits at once or none, exactly, and back what was not used."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import pytest

from app.state.base import NEVER, Ask, Limit, Outcome, State
from app.state.redis import RedisCounters
from tests.redis_server import RedisServer

_numbers = itertools.count()
TOMORROW = time.time() + 86_400


def usd(ceiling: int, key: str = "day") -> Limit:
    return Limit("usd", f"{key}-{next(_numbers)}", ceiling, TOMORROW)


def rate(ceiling: int, kind: str = "requests") -> Limit:
    return Limit("tokens" if kind == "tokens" else "requests", f"rate-{next(_numbers)}", ceiling)


def slots(ceiling: int) -> Limit:
    return Limit("parallel", f"slots-{next(_numbers)}", ceiling)


def name() -> str:
    return f"hold-{next(_numbers)}"


async def used(state: State, limit: Limit) -> float:
    """What is used of a money limit just now: a reservation of nothing, given back."""
    wide = Limit(limit.kind, limit.key, 10**15, limit.until)
    hold = name()
    outcome = await state.reserve(hold, [wide], Ask(0, 0))
    state.settle(hold, [wide], Ask(0, 0), Ask(0, 0))
    await state.flush()
    return outcome.readings[0].used


async def test_a_reservation_is_counted_and_settled_for_what_was_true(state: State) -> None:
    day, hold = usd(1000), name()
    outcome = await state.reserve(hold, [day], Ask(600, 0))
    assert outcome == Outcome((outcome.readings[0],), ())
    assert outcome.readings[0][:3] == (600, 600, 1000)
    assert outcome.readings[0].settled == 0
    state.settle(hold, [day], Ask(600, 0), Ask(250, 0))
    await state.flush()
    outcome = await state.reserve(name(), [day], Ask(750, 0))
    assert not outcome.refused
    assert outcome.readings[0][:3] == (1000, 750, 1000)
    assert (await state.reserve(name(), [day], Ask(1, 0))).refused == (0,)


async def test_all_limits_or_none(state: State) -> None:
    day, month, minute, at_once = usd(1000), usd(500), rate(100), slots(5)
    limits = [day, minute, month, at_once]
    outcome = await state.reserve(name(), limits, Ask(501, 0))
    assert outcome.refused == (2,)
    assert [reading.used for reading in outcome.readings] == [0, 0, 0, 0]
    hold = name()
    outcome = await state.reserve(hold, limits, Ask(500, 0))
    assert not outcome.refused
    assert [round(reading.used, 1) for reading in outcome.readings] == [500, 1, 500, 1]
    outcome = await state.reserve(name(), limits, Ask(501, 0))
    assert outcome.refused == (0, 2)


async def test_many_at_once_do_not_overrun(state: State) -> None:
    """Two hundred at once, money and slots for twenty."""
    for limit, ask in ((usd(2000), Ask(100, 0)), (slots(20), Ask(0, 0)), (rate(20), Ask(0, 0))):
        outcomes = await asyncio.gather(*(state.reserve(name(), [limit], ask) for _ in range(200)))
        admitted = [outcome for outcome in outcomes if not outcome.refused]
        # A bucket of twenty a minute gives one back every three seconds.
        assert 20 <= len(admitted) <= (21 if limit.kind == "requests" else 20)
        assert max(outcome.readings[0].used for outcome in admitted) <= limit.ceiling


async def test_a_true_cost_above_the_reservation_is_counted_whole(state: State) -> None:
    day, hold = usd(1000), name()
    await state.reserve(hold, [day], Ask(100, 0))
    state.settle(hold, [day], Ask(100, 0), Ask(1500, 0))
    await state.flush()
    outcome = await state.reserve(name(), [day], Ask(0, 0))
    assert outcome.refused == (0,)
    assert outcome.readings[0][:2] == (1500, 0)


async def test_a_reservation_can_be_raised(state: State) -> None:
    day, minute, hold = usd(1000), rate(100), name()
    limits = [day, minute]
    await state.reserve(hold, limits, Ask(100, 0))
    outcome = await state.extend(hold, limits, Ask(100, 0), 1001)
    assert outcome.refused == (0,)
    assert await used(state, day) == 100
    outcome = await state.extend(hold, limits, Ask(100, 0), 1000)
    assert not outcome.refused
    assert await used(state, day) == 1000
    state.settle(hold, limits, Ask(1000, 0), Ask(30, 0))
    await state.flush()
    assert await used(state, day) == 30


async def test_a_rate_flows_back(state: State) -> None:
    second = rate(1200)  # twenty a second
    while not (outcome := await state.reserve(name(), [second], Ask(0, 0))).refused:
        assert outcome.readings[0].wait == 0
    wait = outcome.readings[0].wait
    assert 0 < wait <= 0.05
    await asyncio.sleep(wait + 0.002)
    assert not (await state.reserve(name(), [second], Ask(0, 0))).refused


async def test_tokens_are_corrected(state: State) -> None:
    minute, hold = rate(1000, "tokens"), name()
    assert not (await state.reserve(hold, [minute], Ask(0, 900))).refused
    refused = await state.reserve(name(), [minute], Ask(0, 900))
    assert refused.refused == (0,)
    assert refused.readings[0].wait == pytest.approx(48, abs=1)
    state.settle(hold, [minute], Ask(0, 900), Ask(0, 100))
    await state.flush()
    assert not (await state.reserve(name(), [minute], Ask(0, 900))).refused


async def test_more_than_a_minute_allows_never_fits(state: State) -> None:
    minute = rate(1000, "tokens")
    outcome = await state.reserve(name(), [minute], Ask(0, 1001))
    assert outcome.refused == (0,)
    assert outcome.readings[0].wait == NEVER


async def test_a_slot_is_free_again_after_its_request(state: State) -> None:
    two, first = slots(2), name()
    await state.reserve(first, [two], Ask(0, 0))
    await state.reserve(name(), [two], Ask(0, 0))
    refused = await state.reserve(name(), [two], Ask(0, 0))
    assert (refused.refused, refused.readings[0].used) == ((0,), 2)
    assert refused.readings[0].wait > 0
    state.settle(first, [two], Ask(0, 0), Ask(0, 0))
    await state.flush()
    assert not (await state.reserve(name(), [two], Ask(0, 0))).refused
    assert (await state.reserve(name(), [two], Ask(0, 0))).refused


async def test_what_was_spent_before_is_known_once(state: State) -> None:
    day = usd(1000)
    await state.load([(day, 400)])
    await state.load([(day, 400), (day, 300)])
    assert await used(state, day) == 400
    assert (await state.reserve(name(), [day], Ask(601, 0))).refused
    hold = name()
    assert not (await state.reserve(hold, [day], Ask(600, 0))).refused
    state.settle(hold, [day], Ask(600, 0), Ask(100, 0))
    await state.flush()
    assert await used(state, day) == 500


async def test_what_is_known_here_and_now(state: State) -> None:
    day, minute = usd(1000), rate(10)
    await state.reserve(name(), [day, minute], Ask(600, 0))
    seen = state.peek(day)
    assert seen is not None
    assert (seen.used, seen.settled, seen.ceiling) == (600, 0, 1000)
    seen = state.peek(minute)
    assert seen is not None
    assert 0.9 < seen.used <= 1


async def test_a_quick_look_overlooks_nothing(state: State) -> None:
    """It may say that a limit is full that is not, and never the other way round."""
    day, minute = usd(1000), rate(2)
    both = (day, minute)
    assert not state.may_be_full(both)
    await state.reserve(name(), both, Ask(600, 0))
    assert state.may_be_full((minute,))
    assert not state.may_be_full((day,))
    await state.reserve(name(), (day,), Ask(400, 0))
    assert state.may_be_full((day,))
    assert state.may_be_full(both)


@pytest.mark.parametrize("at_once", [1, 20])
async def test_a_reservation_is_one_round_trip(redis_server: RedisServer, at_once: int) -> None:
    """Of all its limits together; those of the same moment share it."""
    redis = RedisCounters(redis_server.url, timeout_seconds=2)
    await redis.greet()
    limits = (usd(10**6), usd(10**6, "month"), rate(100), rate(10**6, "tokens"), slots(100))
    await redis.reserve("new", name(), limits, Ask(1, 1))
    try:
        with socket.create_connection(("127.0.0.1", redis_server.port), 1.0) as looking:
            before = _reads(looking)
            for _ in range(3):
                await asyncio.gather(
                    *(redis.reserve("new", name(), limits, Ask(1, 1)) for _ in range(at_once))
                )
            assert _reads(looking) - before - 1 == 3, "one of them is the look"
    finally:
        await redis.close()


def _reads(looking: socket.socket) -> int:
    """How often the server has read from its clients."""
    looking.sendall(b"INFO stats\r\n")
    told = b""
    while b"total_writes_processed" not in told:
        told += looking.recv(65_536)
    return int(told.partition(b"total_reads_processed:")[2].split()[0])


async def test_a_million_dollars_are_exact(state: State) -> None:
    """In nano-dollars that is more than a 32-bit number and more digits than a short float."""
    forever = Limit("usd", f"all-{next(_numbers)}", 10**15, None)
    await state.load([(forever, 10**15 - 3)])
    assert not (await state.reserve(name(), [forever], Ask(2, 0))).refused
    assert (await state.reserve(name(), [forever], Ask(2, 0))).refused
    assert await used(state, forever) == 10**15 - 1


async def test_a_request_may_end_after_its_period(state: State) -> None:
    past = Limit("usd", f"yesterday-{next(_numbers)}", 1000, time.time() - 10)
    hold = name()
    await state.reserve(hold, [past], Ask(10, 0))
    state.settle(hold, [past], Ask(10, 0), Ask(7, 0))
    await state.flush()
    assert await used(state, past) == 7
