"""Notices that gateways leave for each other in a real Redis."""

from __future__ import annotations

from app.state.notices import RedisBoard
from app.state.redis import RedisCounters
from tests.redis_server import RedisServer


async def test_what_one_leaves_the_other_reads(redis_server: RedisServer) -> None:
    one, two = (RedisCounters(redis_server.url, timeout_seconds=2) for _ in range(2))
    await RedisBoard(one, "deployments").leave({"open a": "1 x", "open b/c": "2 x"})
    await RedisBoard(one, "deployments").leave({"open a": "3 x"})
    assert await RedisBoard(two, "deployments").read() == {"open a": "3 x", "open b/c": "2 x"}
    assert await RedisBoard(two, "other").read() == {}
    await one.close()
    await two.close()


async def test_nobody_waits_for_a_redis_that_is_away() -> None:
    counters = RedisCounters("redis://127.0.0.1:1", timeout_seconds=0.2)
    board = RedisBoard(counters, "deployments")
    await board.leave({"open a": "1 x"})
    assert await board.read() == {}
    await counters.close()
