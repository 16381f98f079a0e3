"""Gateways over one real Redis give each other's answers, and their own while it is away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from app.accounting.caller import Caller
from app.delivery.cache.shared import SharedAnswers
from app.state.redis import RedisCounters
from app.state.shared import SharedState
from tests.caching import World
from tests.redis_server import RedisServer

Start = Callable[..., Awaitable[World]]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer()
    one.start()
    yield one
    one.close()


@pytest.fixture
async def gateway(server: RedisServer) -> AsyncIterator[Start]:
    """Starts the cache of one more gateway process."""
    started: list[tuple[World, SharedState]] = []

    async def start(timeout_seconds: float = 2.0, **written: Any) -> World:
        state = SharedState(RedisCounters(server.url, timeout_seconds=timeout_seconds))
        await state.open()
        one = World(SharedAnswers(state, clock=lambda: one.now), **written)
        one.now = time.time()
        started.append((one, state))
        return one

    yield start
    for world, state in started:
        await world.cache.close()
        world.embedder.close()
        await state.close()


async def test_an_answer_is_given_by_another_gateway(gateway: Start) -> None:
    one, two = await gateway(), await gateway()
    ann = Caller("ann")
    assert await one.ask("Hello", caller=ann) == "miss"
    assert await two.ask("Hello", caller=Caller("bob")) == "miss"
    two.now += 5
    assert await two.ask("Hello", caller=ann) == "hit exact: Hello"
    assert two.record.cache is not None
    assert two.record.cache.age_seconds in (4, 5)
    assert two.record.cache.usage is not None


async def test_similar_questions_of_another_gateway(gateway: Start) -> None:
    one, two = await gateway(kind="semantic"), await gateway(kind="semantic")
    for length in (10, 60):
        assert await one.ask("the word " + "a" * length) == "miss"
    assert await two.ask("a word " + "a" * 11) == "hit similar: the word " + "a" * 10
    assert await two.ask("a word " + "a" * 61) == "hit similar: the word " + "a" * 60
    # What comes later is heard of as well, and goes both ways.
    assert await two.ask("the word " + "a" * 110) == "miss"
    assert await one.ask("a word " + "a" * 111) == "hit similar: the word " + "a" * 110


async def test_an_answer_expires_in_redis(gateway: Start, server: RedisServer) -> None:
    one, two = await gateway(ttl_seconds=30), await gateway(ttl_seconds=30)
    await one.ask("Hello")
    name = server.command("KEYS", "*:cache:answer:*", lines=3).decode()
    assert 25_000 < int(server.command("PTTL", name)[1:]) <= 30_000
    two.now += 30
    assert await two.ask("Hello") == "miss"


async def test_redis_away_is_nothing_to_wait_for(gateway: Start, server: RedisServer) -> None:
    one = await gateway(timeout_seconds=0.1, kind="semantic")
    await one.ask("the word aaa")
    server.freeze()
    started = time.monotonic()
    assert await one.ask("the word aaa") == "hit exact: the word aaa"
    assert await one.ask("a word aaaa") == "hit similar: the word aaa"
    assert await one.ask("a word " + "a" * 60) == "miss"
    assert time.monotonic() - started < 1.0
    server.thaw()


async def test_what_redis_refuses_keeps_no_one_from_counting(
    gateway: Start, server: RedisServer
) -> None:
    one, two = await gateway(), await gateway()
    server.command("CONFIG", "SET", "maxmemory", "1")
    assert await one.ask("Hello") == "miss"
    assert await one.ask("Hello") == "hit exact: Hello"
    assert await two.ask("Hello") == "miss"
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert await two.ask("Bye") == "miss"
    assert await one.ask("Bye") == "hit exact: Bye"
