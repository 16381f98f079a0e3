"""Answers in Redis, for all gateways that share it: each keeps its own copy of what it was asked.

An answer is a value with an expiry. Beside it each group of similar questions is a sorted set, by
the time they came, of what `nearest` needs to know; a gateway reads what is new of a group when it
looks into it. Redis away is an answer that is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any, NamedTuple

import numpy as np

from app.delivery.cache.entry import Entry, read, written
from app.delivery.cache.nearest import Asked, Vector
from app.delivery.cache.terms import Key
from app.state.base import Commands

MOST_BYTES = 1024 * 1024
"""Of an answer that is shared. All have one short time-out, and Redis does one thing after another:
limits would wait for it as well."""
_KEY_BYTES, _SIGNATURE_BYTES = 16, 8
_MOST_IN_GROUP = 1_000
_CLOCKS_DIFFER_SECONDS = 5.0
"""So much of a group is read again, as another gateway's clock may be behind."""


class Heard(NamedTuple):
    """A question that some gateway was asked, and when."""

    asked: Asked
    vector: Vector
    at: float


class SharedAnswers:
    """Each method is one round trip."""

    def __init__(self, redis: Commands, clock: Callable[[], float] = time) -> None:
        self._redis = redis
        self._clock = clock

    async def get(self, key: Key) -> Entry | None:
        found = await self._redis.ask([("GET", self._answer(key))])
        return _entry(found[0]) if found else None

    async def find(self, key: Key, group: Key, since: float) -> tuple[Entry | None, list[Heard]]:
        """An answer, and what is new in a group."""
        after = since - _CLOCKS_DIFFER_SECONDS if since else 0.0
        found = await self._redis.ask(
            [
                ("GET", self._answer(key)),
                ("ZRANGE", self._group(group), after, "+inf", "BYSCORE", "WITHSCORES"),
            ]
        )
        if not found:
            return None, []
        told = found[1] if isinstance(found[1], list) else []
        pairs = zip(told[::2], told[1::2], strict=True)
        return _entry(found[0]), [_heard(member, float(score)) for member, score in pairs]

    async def put(self, key: Key, entry: Entry, ttl_seconds: float) -> None:
        if len(entry.body) > MOST_BYTES:
            return
        milliseconds = max(int(ttl_seconds * 1000), 1)
        await self._redis.ask([("SET", self._answer(key), written(entry), "PX", milliseconds)])

    async def add(self, group: Key, asked: Asked, vector: Vector, ttl_seconds: float) -> None:
        """Tell of a question that has an answer."""
        now, name = self._clock(), self._group(group)
        member = asked.key + asked.signature + vector.astype("<f2").tobytes()
        await self._redis.ask(
            [
                ("ZADD", name, now, member),
                ("ZREMRANGEBYSCORE", name, "-inf", now - ttl_seconds),
                ("ZREMRANGEBYRANK", name, 0, -_MOST_IN_GROUP - 1),
                ("PEXPIRE", name, max(int(ttl_seconds * 1000), 1)),
            ]
        )

    def _answer(self, key: Key) -> str:
        return self._redis.key(f"cache:answer:{key.hex()}")

    def _group(self, group: Key) -> str:
        return self._redis.key(f"cache:asked:{group.hex()}")


def _entry(answer: Any) -> Entry | None:
    return read(answer) if isinstance(answer, bytes) else None


def _heard(member: bytes, at: float) -> Heard:
    signed = _KEY_BYTES + _SIGNATURE_BYTES
    vector = np.frombuffer(member[signed:], dtype="<f2").astype(np.float32)
    return Heard(Asked(member[:_KEY_BYTES], member[_KEY_BYTES:signed]), vector, at)
