"""Short notices that gateways leave for each other in Redis, a line a name. What can't be left or
read now is of no use later, so nothing is kept and nothing raises."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from app.state.redis import RedisCounters, Unreachable


class RedisBoard:
    """One hash for all notices: a command to leave some, and one to read them all."""

    def __init__(self, redis: RedisCounters, key: str) -> None:
        self._redis, self._key = redis, key

    async def leave(self, notices: Mapping[str, str]) -> None:
        with suppress(Unreachable):
            await self._redis.put_notices(self._key, notices)

    async def read(self) -> Mapping[str, str]:
        try:
            return await self._redis.notices(self._key)
        except Unreachable:
            return {}
