"""Counters in Redis, one round trip each; what fails comes out as `Unreachable`, soon.

Reservations that come at the same moment share a round trip, which takes less of the processor than
a command each, and keeps a burst from timing out in its own queue.

All keys share one hash tag, so that a cluster holds them in one slot and a script may touch them
together; the client itself speaks to one address and does not follow redirections.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from hashlib import sha1
from typing import Any, Literal, NamedTuple

import orjson
import redis.asyncio as client
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from app.state import scripts
from app.state.base import NEVER, Ask, Limit, Outcome, Reading

_CONNECTIONS = 8
_BATCH = 64
_REMEMBERED = 4_096
_MARK_SECONDS = 90_000
"""A mark outlives the longest request that a configuration allows, a day."""
_DONE_SECONDS = 120
"""How long a script that was sent twice is known again."""
_GRACE_SECONDS = 86_400
_RUN_ID = re.compile(rb"run_id:(\w+)")

How = Literal["new", "more", "force"]


class Unreachable(Exception):
    """No good answer in time. What was sent may or may not have been carried out."""


class Settlement(NamedTuple):
    """What is still to be told of one reservation. `undo`: it may never have been made."""

    how: Literal["true", "undo"]
    id: str
    limits: Sequence[Limit]
    asked: Ask
    true: Ask


class Carried(NamedTuple):
    """Of one sum of money: what was seen settled, and what was spent apart from Redis since."""

    limit: Limit
    seen: int
    more: int


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


_RESERVE = _Script(scripts.RESERVE)
_SETTLE = _Script(scripts.SETTLE)
_CARRY = _Script(scripts.CARRY)
_RENEW = _Script(scripts.RENEW)


class RedisCounters:
    """Connections and the scripts. Every method raises Unreachable."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "pointsman",
        timeout_seconds: float = 0.1,
        lease_seconds: float = 30.0,
    ) -> None:
        self._prefix = f"{{{prefix}}}:"
        self._timeout = timeout_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._known: dict[int, tuple[Sequence[Limit], tuple[str, ...], bytes]] = {}
        self._server: bytes | None = None
        self._client = self._with_pool(url)
        self._plain = self._with_pool(url)
        """For what is no counter: however slow that is, limits have connections."""
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def close(self) -> None:
        for each in (self._client, self._plain):
            await each.aclose(close_connection_pool=True)

    async def greet(self) -> None:
        """Take the server for the one to count with, whether it knows us or not."""
        self._server = None
        await self._within(self._load())

    async def ping(self) -> None:
        """Whether the server answers who counts."""
        await self._within(self._client.ping())

    async def reserve(self, how: How, id_: str, limits: Sequence[Limit], ask: Ask) -> Outcome:
        return _outcome(limits, await self._ask(self._reservation(how, id_, limits, ask)))

    async def adopt(self, held: Iterable[tuple[str, Sequence[Limit], Ask]]) -> None:
        """Count reservations in, whatever room there is; what is known already stays as it is."""
        await self._all(
            [self._reservation("force", id_, _kept(limits), ask) for id_, limits, ask in held]
        )

    def _reservation(self, how: How, id_: str, limits: Sequence[Limit], ask: Ask) -> Call:
        keys, described = self._described(limits)
        more = (how, id_, ask.usd, ask.tokens, _MARK_SECONDS, self._lease_ms)
        return _RESERVE, (self._mark(id_), *keys), (described, *more)

    async def settle(self, settlements: Sequence[Settlement]) -> list[tuple[Limit, Reading]]:
        """Gives what the sums of money came to."""
        calls: list[Call] = []
        for how, id_, limits, asked, true in settlements:
            keys, described = self._described(limits)
            more = (how, id_, true.usd, true.tokens, asked.tokens, _DONE_SECONDS)
            calls.append((_SETTLE, (self._mark(id_), *keys), (described, *more)))
        readings: list[tuple[Limit, Reading]] = []
        for settlement, answer in zip(settlements, await self._all(calls), strict=True):
            readings += _sums([one for one in settlement.limits if one.kind == "usd"], answer)
        return readings

    async def carry(self, id_: str, sums: Sequence[Carried]) -> list[tuple[Limit, Reading]]:
        """Add what was spent apart from Redis, once for each id; and what Redis has forgotten.
        Gives what the sums came to."""
        described: list[int] = []
        for limit, seen, more in sums:
            described += [seen, more, _forgotten_at(limit)]
        keys = (self._mark(id_), *[self._prefix + one.limit.key for one in sums])
        answers = await self._all([(_CARRY, keys, (orjson.dumps(described), _MARK_SECONDS))])
        return _sums([one.limit for one in sums], answers[0])

    async def renew(self, process: str, leases: dict[str, list[str]]) -> int:
        """Renew leases by key of their limit, and this process's own; gives how many processes
        there are."""
        calls: list[Call] = [
            (_RENEW, (self._prefix + "processes",), (self._lease_ms, "CH", process)),
            *(
                (_RENEW, (self._prefix + key,), (self._lease_ms, "XX", *ids))
                for key, ids in leases.items()
            ),
        ]
        answers = await self._all(calls)
        return int(answers[0])

    async def put_notices(self, key: str, notices: Mapping[str, str]) -> None:
        """Leave notices for others, which read them all."""
        named = self._prefix + key
        await self._within(self._client.hset(named, mapping=dict(notices)))

    async def notices(self, key: str) -> dict[str, str]:
        """What has been left."""
        left = await self._within(self._client.hgetall(self._prefix + key))
        return {name.decode(): text.decode() for name, text in left.items()}

    def key(self, name: str) -> str:
        """A key of ours."""
        return self._prefix + name

    async def run(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        """Plain commands in one round trip, of which each may answer with an error."""
        answers: list[Any] = await self._within(self._run(commands))
        return answers

    async def _run(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        async with self._plain.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))

    # --- scripts -----------------------------------------------------------------------------

    def _mark(self, id_: str) -> str:
        return f"{self._prefix}hold:{id_}"

    def _described(self, limits: Sequence[Limit]) -> tuple[tuple[str, ...], bytes]:
        """Keys of some limits, and what scripts must know of them; the same tuple comes often."""
        known = self._known.get(id(limits))
        if known is not None and known[0] is limits:
            return known[1], known[2]
        keys = tuple([self._prefix + limit.key for limit in limits])
        described: list[object] = []
        for limit in limits:
            described += [limit.kind, limit.ceiling, _forgotten_at(limit)]
        written = orjson.dumps(described)
        if isinstance(limits, tuple):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[id(limits)] = (limits, keys, written)
        return keys, written

    async def _ask(self, call: Call) -> Any:
        """The answer to one script, in a round trip with all that wait at the same moment."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if self._sender is None or self._sender.done():
            # It serves all who wait, and not in the name of the first.
            loop = asyncio.get_running_loop()
            self._sender = loop.create_task(self._send_waiting(), context=Context())
        return await future

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            try:
                answers = await self._all([call for call, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                batch, self._waiting = batch + self._waiting, []
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _all(self, calls: Sequence[Call]) -> list[Any]:
        """Several scripts in one round trip."""
        if not calls:
            return []
        answers: list[Any] = await self._within(self._pipelined(calls))
        return answers

    async def _pipelined(self, calls: Sequence[Call]) -> list[Any]:
        try:
            return await self._piped(calls)
        except NoScriptError:
            await self._load()
            return await self._piped(calls)

    async def _piped(self, calls: Sequence[Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments in calls:
                pipeline.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
            return list(await pipeline.execute())

    async def _load(self) -> None:
        for script in (_RESERVE, _SETTLE, _CARRY, _RENEW):
            await self._client.execute_command("SCRIPT", "LOAD", script.text)

    # --- the connection ----------------------------------------------------------------------

    def _with_pool(self, url: str) -> Any:
        pool = client.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=self._timeout,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._timeout,
            # A kept connection may have been closed meanwhile; everything may be sent twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            redis_connect_func=self._connected,
        )
        return client.Redis(connection_pool=pool)

    async def _connected(self, connection: Connection) -> None:
        """Greet the server, and refuse one that is not the one we have been counting with: it may
        have lost what it knew."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            match = _RUN_ID.search(await connection.read_response())
        except ResponseError:
            match = None  # not allowed to ask: then a restart can't be told from a short absence
        server = match.group(1) if match else b""
        if self._server is None:
            self._server = server
        elif self._server != server:
            raise RedisConnectionError("another server answers")

    async def _within(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of some work, or Unreachable once the time is over."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        due = loop.time() + self._timeout
        try:
            await asyncio.wait({task}, timeout=self._timeout)
            if not task.done() and loop.time() - due > self._timeout / 4:
                # It was our own loop that was late; the answer may be there already.
                await asyncio.wait({task}, timeout=self._timeout / 2)
            if not task.done():
                raise Unreachable("no answer in time")
            return task.result()
        except (RedisError, OSError) as error:
            raise Unreachable(type(error).__name__) from error
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_seen)


Call = tuple[_Script, tuple[str, ...], tuple[object, ...]]


def _seen(task: asyncio.Task[Any]) -> None:
    """What a task that was given up came to is of no interest, and must not be complained of."""
    if not task.cancelled():
        task.exception()


def _forgotten_at(limit: Limit) -> int:
    return 0 if limit.until is None else int(limit.until) + _GRACE_SECONDS


def _kept(limits: Sequence[Limit]) -> list[Limit]:
    """Limits that a running request still counts in: rates were taken when it came."""
    return [limit for limit in limits if limit.kind in ("usd", "parallel")]


def _sums(money: Sequence[Limit], answer: bytes) -> list[tuple[Limit, Reading]]:
    """Total and held of some sums; none where a settlement had been told before."""
    numbers = [int(number) for number in answer.split()]
    return [
        (limit, Reading(used, held, limit.ceiling))
        for limit, used, held in zip(money, numbers[::2], numbers[1::2], strict=False)
    ]


def _outcome(limits: Sequence[Limit], answer: bytes) -> Outcome:
    granted, *numbers = answer.split()
    if granted == b"-1":
        raise Unreachable("given up before")
    readings, refused = [], []
    for place, limit in enumerate(limits):
        fits, used, held, wait = numbers[4 * place : 4 * place + 4]
        seconds = 0.0
        if fits == b"0":
            refused.append(place)
            seconds = NEVER if wait == b"-1" else int(wait) / 1000
        readings.append(Reading(float(used), int(held), limit.ceiling, seconds))
    return Outcome(tuple(readings), tuple(refused))
