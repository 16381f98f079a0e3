"""What is remembered of conversations: alike in memory and over a real Redis, and without it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from app.routing.conversation.sessions import Session, Sessions
from app.state.redis import RedisCounters
from app.state.shared import SharedState
from tests.redis_server import RedisServer


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis", "redis away"])
async def sessions(
    request: pytest.FixtureRequest, clock: Clock
) -> AsyncIterator[tuple[Sessions, Sessions]]:
    """Those of one gateway, and of another that shares them; of memory the same ones twice."""
    if request.param == "memory":
        one = Sessions(clock=clock)
        yield one, one
        return
    url = "redis://127.0.0.1:1"  # nobody listens there
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    states = [SharedState(RedisCounters(url, timeout_seconds=2)) for _ in range(2)]
    for state in states:
        await state.open()
    made = [Sessions(state, clock) for state in states]
    yield (made[0], made[1]) if request.param == "redis" else (made[0], made[0])
    for each in made:
        await each.close()
    for state in states:
        await state.close()


async def test_what_one_notes_another_knows(
    sessions: tuple[Sessions, Sessions], clock: Clock
) -> None:
    one, two = sessions
    key = f"noted {clock.now}".encode()
    assert await two.get(key, 60) is None
    noted = Session("small", clock.now, 2_000, "ab", turns=3, escalated=True, failures_seen=2)
    one.put(key, noted, 60)
    assert await one.get(key, 60) == noted
    await one.close()
    assert await two.get(key, 60) == noted
    later = Session("large", clock.now + 1, 3_000, "ab")
    two.put(key, later, 60)
    await two.close()
    assert await one.get(key, 60) == later
    clock.now += 61
    assert await one.get(key, 60) is None


async def test_redis_going_away_leaves_what_is_known_here(
    redis_server: RedisServer, clock: Clock
) -> None:
    state = SharedState(RedisCounters(redis_server.url, timeout_seconds=0.1))
    await state.open()
    sessions = Sessions(state, clock)
    sessions.put(b"kept", Session("small", clock.now, 2_000, "ab"), 60)
    await sessions.close()
    redis_server.freeze()
    try:
        started = time.monotonic()
        found = await sessions.get(b"kept", 60)
        assert found is not None
        assert await sessions.get(b"not kept", 60) is None
        assert time.monotonic() - started < 0.5
    finally:
        redis_server.thaw()
    await state.close()


async def test_what_another_version_has_written_is_nothing(
    redis_server: RedisServer, clock: Clock
) -> None:
    state = SharedState(RedisCounters(redis_server.url, timeout_seconds=2))
    await state.open()
    sessions = Sessions(state, clock)
    for text in ("{}", "[]", "x", '{"version":1,"model":"m"}', '{"version":99}'):
        await state.ask([("SET", state.key(f"session:{b'v'.hex()}"), text)])
        assert await sessions.get(b"v", 60) is None
    await state.close()
