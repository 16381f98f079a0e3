"""Redis stops, freezes, starts again and forgets: limits are kept, and nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from app.exchange.record import Record
from app.state.base import Ask, Limit
from app.state.redis import RedisCounters
from app.state.shared import SharedState
from app.telemetry.logs import current
from tests.redis_server import RedisServer

DAY = Limit("usd", "usd:day", 1000, time.time() + 86_400)
AT_ONCE = Limit("parallel", "parallel:gateway", 4)
MINUTE = Limit("requests", "requests:gateway", 600)
SOON_SECONDS = 0.1 + 0.1  # the time-out, and what a busy machine adds


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer()
    one.start()
    yield one
    one.close()


Process = Callable[..., Awaitable[SharedState]]


@pytest.fixture
async def process(server: RedisServer) -> AsyncIterator[Process]:
    """Starts what each gateway process has: its own counters over the same server."""
    started: list[SharedState] = []

    async def start(lease_seconds: float = 30.0, **options: int) -> SharedState:
        counters = RedisCounters(server.url, lease_seconds=lease_seconds)
        one = SharedState(counters, lease_seconds=lease_seconds, **options)
        await one.open()
        started.append(one)
        return one

    yield start
    for one in started:
        await one.close()


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what it waits for is no event
            await asyncio.sleep(0.005)


async def granted(one: SharedState, id_: str, usd: int, *limits: Limit) -> bool:
    """Whether a reservation was granted; in any case soon."""
    asked = time.monotonic()
    outcome = await one.reserve(id_, limits or (DAY,), Ask(usd, 0))
    assert time.monotonic() - asked < SOON_SECONDS
    return not outcome.refused


def settle(one: SharedState, id_: str, asked: int, true: int, *limits: Limit) -> None:
    one.settle(id_, limits or (DAY,), Ask(asked, 0), Ask(true, 0))


async def used(one: SharedState) -> tuple[float, int]:
    """What Redis has as used, and as held."""
    await one.flush()
    outcome = await one._redis.reserve("new", f"look-{time.monotonic_ns()}", [DAY], Ask(10**9, 0))
    assert outcome.refused
    return outcome.readings[0].used, outcome.readings[0].held


async def test_it_is_killed_and_comes_back_without_memory(
    server: RedisServer, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    one = await process()
    assert await granted(one, "a", 300)
    settle(one, "a", 300, 200)
    assert await granted(one, "b", 100)  # still runs when it goes
    await one.flush()
    server.kill()
    assert await granted(one, "c", 300)
    assert one.away
    assert not await granted(one, "d", 500), "200 spent, 400 reserved"
    settle(one, "c", 300, 150)
    assert await granted(one, "e", 500)
    server.start()
    await until(lambda: not one.away)
    assert await used(one) == (200 + 100 + 150 + 500, 600)
    settle(one, "b", 100, 10)
    settle(one, "e", 500, 20)
    assert await used(one) == (200 + 10 + 150 + 20, 0)
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("Redis is away (")
    assert said[0].endswith(
        ": this process keeps limits by itself, with one part in 1 of what is left"
    )
    assert said[1].startswith("Redis is back after")


async def test_what_goes_on_after_the_request_that_met_it_is_not_logged_as_that_requests(
    server: RedisServer, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    class Noting(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            serves = current.get()
            told.append((record.getMessage()[:13], serves and serves.request_id))
            return True

    async def served() -> None:
        current.set(Record("req_1", 0.0, 0.0))
        assert await granted(one, "a", 300)

    told: list[tuple[str, str | None]] = []
    caplog.set_level(logging.WARNING)
    one = await process()
    server.kill()
    with caplog.filtering(Noting()):
        await asyncio.create_task(served())
        server.start()
        await until(lambda: not one.away)
    assert told == [("Redis is away", "req_1"), ("Redis is back", None)]


async def test_what_is_slow_with_other_commands_counts_all_the_same(process: Process) -> None:
    """Those of the answer cache, of which each takes a connection until it is given up."""
    one = await process()
    slow = ("BLPOP", one.key("nothing"), 5)
    asking = [asyncio.create_task(one.ask([slow])) for _ in range(40)]
    while not all(task.done() for task in asking):
        assert await granted(one, f"r{time.monotonic_ns()}", 0)
        await asyncio.sleep(0.01)
    assert [task.result() for task in asking] == [None] * 40
    assert not one.away
    assert await one.ask([("ECHO", "there")]) == [b"there"]


async def test_other_commands_find_out_too_that_it_is_away(
    server: RedisServer, process: Process
) -> None:
    one = await process()
    server.freeze()
    assert await one.ask([("PING",)]) is None
    await until(lambda: one.away, seconds=0.5)
    server.thaw()
    await until(lambda: not one.away)


async def test_it_freezes_under_load(
    server: RedisServer, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies in a frozen server's buffers is carried out when it thaws, and was given up."""
    caplog.set_level(logging.WARNING)
    one = await process()
    assert await granted(one, "before", 100)
    server.freeze()
    settle(one, "before", 100, 60)
    asking = await asyncio.gather(*(granted(one, f"f{i}", 10) for i in range(200)))
    assert sum(asking) == 90, "100 are spent or reserved, as it was last told"
    for i in range(200):
        assert await granted(one, f"g{i}", 10) is False
    for i in range(200):
        if asking[i]:
            settle(one, f"f{i}", 10, 5)
    server.thaw()
    await until(lambda: not one.away)
    assert await used(one) == (60 + 90 * 5, 0)
    assert len(caplog.records) == 2, "one line when it goes and one when it comes"


async def test_it_restarts_between_two_requests(server: RedisServer, process: Process) -> None:
    """Nobody asked anything while it was down: it is found to be another, and told everything."""
    one = await process()
    assert await granted(one, "a", 300, DAY, AT_ONCE)
    settle(one, "a", 300, 250, DAY, AT_ONCE)
    assert await granted(one, "b", 100, DAY, AT_ONCE)
    await one.flush()
    server.kill()
    server.start()
    assert await granted(one, "c", 100, DAY, AT_ONCE)
    await until(lambda: not one.away)
    assert await used(one) == (450, 200)
    outcome = await one.reserve("d", [AT_ONCE], Ask(0, 0))
    assert outcome.readings[0].used == 3


async def test_what_redis_never_heard_of_is_said_at_the_end(
    server: RedisServer, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    one = await process()
    assert await granted(one, "a", 100)
    server.kill()
    assert await granted(one, "b", 100)
    settle(one, "a", 100, 60)
    settle(one, "b", 100, 70)
    await one.close()
    assert "1 settlements, which stay as they were reserved, and $0.00000007" in caplog.text


async def test_a_redis_that_may_only_be_read_is_away(server: RedisServer, process: Process) -> None:
    """As after a failover gone wrong: it greets and refuses to count. Nothing piles up."""
    one = await process()
    assert await granted(one, "a", 100)
    assert server.command("CONFIG", "SET", "min-replicas-to-write", "1") == b"+OK"
    for number in range(5):
        assert await granted(one, f"b{number}", 100)
        settle(one, f"b{number}", 100, 10)
        probed = one._probe_seconds
        await until(lambda probed=probed: one._probe_seconds > min(probed, 0.7))  # type: ignore[misc]
    assert one.away
    assert one._unsure is None or len(one._unsure[1]) == 1
    assert len(one._spent) <= 1
    assert server.command("CONFIG", "SET", "min-replicas-to-write", "0") == b"+OK"
    await until(lambda: not one.away)
    settle(one, "a", 100, 5)
    assert await used(one) == (55, 0)


async def test_each_process_has_a_share_of_what_is_left(
    server: RedisServer, process: Process
) -> None:
    one, two = await process(), await process()
    await one._renew()  # knows of two from here on
    for each, name in ((one, "1"), (two, "2")):
        assert await granted(each, f"a{name}", 100)
        settle(each, f"a{name}", 100, 100)
    assert await granted(one, "look", 0)
    server.kill()
    admitted = [await granted(one, f"x{i}", 10) for i in range(100)]
    assert sum(admitted) == 40, "half of the 800 that are left"
    admitted = [await granted(two, f"y{i}", 10) for i in range(100)]
    assert sum(admitted) == 40
    limits = [await granted(one, f"z{i}", 0, AT_ONCE) for i in range(4)]
    assert limits == [True, True, False, False]


async def test_who_starts_without_it_has_a_share_of_what_is_stated(
    server: RedisServer, process: Process
) -> None:
    server.kill()
    one = await process(least_processes=4)
    assert one.away
    assert [await granted(one, f"x{i}", 50) for i in range(6)] == [True] * 5 + [False]
    assert one.peek(DAY) is not None
    settle(one, "x0", 50, 10)
    server.start()
    await until(lambda: not one.away)
    assert await used(one) == (210, 200)


async def test_the_slots_of_a_process_that_died_become_free(process: Process) -> None:
    one, two = await process(lease_seconds=0.5), await process(lease_seconds=0.5)
    assert all([await granted(one, f"x{i}", 0, AT_ONCE) for i in range(4)])
    assert not await granted(two, "y", 0, AT_ONCE)
    for task in one._tasks:  # as a crash does: nothing is settled, nothing renewed
        task.cancel()
    died = time.monotonic()
    while not await granted(two, f"y{time.monotonic_ns()}", 0, AT_ONCE):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert 0.2 < time.monotonic() - died < 0.8


async def test_a_long_request_keeps_its_slot(process: Process) -> None:
    one, two = await process(lease_seconds=0.3), await process(lease_seconds=0.3)
    assert all([await granted(one, f"x{i}", 0, AT_ONCE) for i in range(4)])
    for number in range(40):
        assert not await granted(two, f"y{number}", 0, AT_ONCE)
        await asyncio.sleep(0.025)
    settle(one, "x0", 0, 0, AT_ONCE)
    await one.flush()
    assert await granted(two, "y", 0, AT_ONCE)


async def test_who_leaves_while_it_is_asked_holds_nothing(
    server: RedisServer, process: Process
) -> None:
    one = await process()
    assert await granted(one, "warm", 0)
    settle(one, "warm", 0, 0)
    server.freeze()
    asking = asyncio.ensure_future(one.reserve("a", [DAY, AT_ONCE], Ask(100, 0)))
    await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.thaw()
    await until(lambda: not one.away)
    assert await used(one) == (0, 0)
    assert await granted(one, "b", 0, AT_ONCE)
    assert (await one.reserve("c", [AT_ONCE], Ask(0, 0))).readings[0].used == 2


async def test_a_raise_of_unknown_end_is_settled_for_what_was_true(
    server: RedisServer, process: Process
) -> None:
    one = await process()
    assert await granted(one, "a", 100)
    server.freeze()
    outcome = await one.extend("a", [DAY], Ask(100, 0), 400)
    assert not outcome.refused, "by this process's share"
    server.thaw()
    await until(lambda: not one.away)
    settle(one, "a", 400, 350)
    assert await used(one) == (350, 0)


async def test_a_redis_that_comes_and_goes_loses_nothing(
    server: RedisServer, process: Process
) -> None:
    """Killed five times while two processes settle; at the end every nano-dollar is there."""
    wide = Limit("usd", "usd:wide", 10**9, DAY.until)
    one, two = await process(), await process()
    spent = 0

    async def work(each: SharedState, name: str) -> None:
        nonlocal spent
        for number in range(300):
            asked = time.monotonic()
            outcome = await each.reserve(f"{name}{number}", [wide], Ask(100, 0))
            assert time.monotonic() - asked < SOON_SECONDS
            assert not outcome.refused
            await asyncio.sleep(0.002)
            each.settle(f"{name}{number}", [wide], Ask(100, 0), Ask(number % 7, 0))
            spent += number % 7

    async def trouble() -> None:
        for number in range(5):
            await asyncio.sleep(0.1)
            if number % 2:
                server.freeze()
                await asyncio.sleep(0.2)
                server.thaw()
            else:
                server.kill()
                await asyncio.to_thread(server.start)

    await asyncio.gather(work(one, "a"), work(two, "b"), trouble())
    await until(lambda: not one.away and not two.away)
    await one.flush()
    await two.flush()
    outcome = await one.reserve("end", [wide], Ask(10**9, 0))
    assert outcome.readings[0].held == 0
    # Each kill may lose what the other process had settled after this one last looked.
    assert spent - 100 <= outcome.readings[0].used <= spent


async def test_a_redis_that_keeps_what_it_knows_loses_nothing_at_all() -> None:
    server = RedisServer(saving=True)
    server.start()
    one = SharedState(RedisCounters(server.url))
    await one.open()
    try:
        for number in range(60):
            if number % 20 == 10:
                server.kill()
                await asyncio.to_thread(server.start)
            assert await granted(one, f"a{number}", 10)
            settle(one, f"a{number}", 10, 3)
        await until(lambda: not one.away)
        assert await used(one) == (180, 0)
    finally:
        await one.close()
        server.close()
