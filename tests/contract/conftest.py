"""Every backend of shared state, as the contract suite meets it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.state.base import State
from app.state.memory import MemoryState
from app.state.redis import RedisCounters
from app.state.shared import SharedState
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture(params=["memory", "redis", "redis away"])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[State]:
    if request.param == "memory":
        yield MemoryState()
        return
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    else:
        url = "redis://127.0.0.1:1"  # nobody listens there
    # Ample time: this suite is about counting, on machines that may be busy.
    one = SharedState(RedisCounters(url, timeout_seconds=2))
    await one.open()
    assert one.away is (request.param == "redis away")
    yield one
    assert one.away is (request.param == "redis away")
    await one.close()
