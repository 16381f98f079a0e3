"""What is remembered of a conversation between two requests: in memory, and over Redis for gateways
that share one. A conversation that nobody has heard of for a while is forgotten.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import time
from typing import Any

import orjson

from app.state.base import Commands

_MOST = 20_000
"""Sessions in memory, a few hundred bytes each; the ones that were quiet the longest go first."""
_CLOSE_SECONDS = 2.0
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Session:
    """Of one conversation: the model that served it last, and when (seconds since 1970); how much
    of it that model may have in its prompt cache, and of which beginning (hex); the deployment,
    where the model has several; how many requests were answered.

    `escalated`: it was moved to a stronger model, when so many failing tool results had been seen.
    """

    model: str
    at: float
    warm_tokens: int
    beginning: str
    deployment: str | None = None
    turns: int = 1
    escalated: bool = False
    failures_seen: int = 0


class Sessions:
    """Sessions by the key of a conversation."""

    def __init__(self, redis: Commands | None = None, clock: Callable[[], float] = time) -> None:
        self._redis = redis
        self.clock = clock
        self._known: OrderedDict[bytes, Session] = OrderedDict()
        self._sending: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._known)

    async def get(self, key: bytes, ttl_seconds: float) -> Session | None:
        """The session, of Redis if there is one: another gateway may have served since."""
        found = self._known.get(key)
        if self._redis is not None:
            told = await self._redis.ask([("GET", self._name(key))])
            # Of two the later one: what was noted here may still be on its way.
            if told and (other := _read(told[0])) and (found is None or other.at > found.at):
                found = other
        if found is None or self.clock() - found.at >= ttl_seconds:
            return None
        return found

    def put(self, key: bytes, session: Session, ttl_seconds: float) -> None:
        """Remember a session. Returns at once."""
        self._known[key] = session
        self._known.move_to_end(key)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        if self._redis is not None:
            told = orjson.dumps({"version": _VERSION, **asdict(session)})
            milliseconds = max(int(ttl_seconds * 1000), 1)
            self._send(("SET", self._name(key), told, "PX", milliseconds))

    async def close(self) -> None:
        """Wait for what is on its way, for a moment."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_CLOSE_SECONDS)

    def _send(self, command: tuple[str | bytes | float, ...]) -> None:
        assert self._redis is not None
        # The event loop itself holds tasks only weakly.
        task = asyncio.get_running_loop().create_task(self._ask(command))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _ask(self, command: tuple[str | bytes | float, ...]) -> None:
        assert self._redis is not None
        await self._redis.ask([command])

    def _name(self, key: bytes) -> str:
        assert self._redis is not None
        return self._redis.key(f"session:{key.hex()}")


def _read(answer: Any) -> Session | None:
    """None of what is not there, or what another version has written."""
    if not isinstance(answer, bytes):
        return None
    try:
        told = orjson.loads(answer)
        return Session(**told) if told.pop("version") == _VERSION else None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
