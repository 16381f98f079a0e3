"""A steady load by clients that send again what met no living gateway, as real ones do.

Requests come at their time whether the others are answered or not. Each has a mark of its own in
its text, so that it can be found again in the logs of the upstreams.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from benchmarks.asking import BROKEN, UNREACHABLE, Answer, ask

_TRIES = 12
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 4.0
_WAIT_SECONDS = 120.0
"""For the last answers."""


@dataclass(frozen=True)
class Try:
    """One sending of a request; from when to when, on the machine's monotonic clock."""

    answer: Answer
    begun: float
    ended: float

    @property
    def lost(self) -> bool:
        """Whether the connection failed, or ended without a word about why."""
        outcome, code = self.answer.outcome, self.answer.code
        return outcome == UNREACHABLE or (outcome == BROKEN and code is None)


@dataclass
class Call:
    """One request of a client and all its tries."""

    mark: str
    stage: str
    tries: list[Try] = field(default_factory=list)

    @property
    def served(self) -> bool:
        return bool(self.tries) and self.tries[-1].answer.good


@dataclass
class Load:
    """What is sent to a gateway, and what came of it. `stage` names what is going on."""

    url: str
    models: Sequence[str]
    """Asked for in turn, by twos: one whole answer and one stream each."""
    api_key: str
    stage: str = ""
    calls: list[Call] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, rate: float, http: aiohttp.ClientSession) -> None:
        """So many requests a second until `over`, and then all their answers."""
        running: set[asyncio.Task[None]] = set()
        started = time.monotonic()
        while not self.over.is_set():
            number = len(self.calls)
            await asyncio.sleep(max(started + number / rate - time.monotonic(), 0))
            call = Call(f"mark-{number:07d}", self.stage)
            self.calls.append(call)
            model = self.models[number // 2 % len(self.models)]
            task = asyncio.ensure_future(self._call(call, http, model, stream=bool(number % 2)))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=_WAIT_SECONDS)

    async def _call(
        self, call: Call, http: aiohttp.ClientSession, model: str, *, stream: bool
    ) -> None:
        messages = [{"role": "user", "content": f"{call.mark}: what is the capital of France?"}]
        body = orjson.dumps({"model": model, "messages": messages, "stream": stream})
        wait = _FIRST_WAIT_SECONDS
        for _ in range(_TRIES):
            begun = time.monotonic()
            answer = await ask(http, self.url, body, api_key=self.api_key)
            call.tries.append(Try(answer, begun, time.monotonic()))
            if not call.tries[-1].lost:
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class Success:
    """Tries that reached a living gateway, and how many of them were answered whole."""

    reached: int
    good: int
    no_gateway: int
    """Connections that failed while the gateway was dead, or died with it."""
    failures: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.good / self.reached if self.reached else 0.0


def success(calls: Sequence[Call], dead: Sequence[tuple[float, float]]) -> Success:
    """`dead` are the spans in which there was no gateway: from its kill until the next is ready.

    A try whose connection failed within such a span, in part or whole, reached nobody. Every other
    try counts, and a failed connection at any other time is a failure like any.
    """
    reached = good = no_gateway = 0
    failures = []
    for call in calls:
        for one in call.tries:
            if one.lost and any(one.begun <= until and one.ended >= at for at, until in dead):
                no_gateway += 1
                continue
            reached += 1
            if one.answer.good:
                good += 1
            else:
                code = one.answer.code or "no code"
                failures.append(f"{call.mark}, {call.stage}: {one.answer.outcome}, {code}")
    return Success(reached, good, no_gateway, tuple(failures))


def by_stage(calls: Sequence[Call]) -> dict[str, dict[str, int]]:
    """Outcomes of all tries in each stage."""
    counted: dict[str, Counter[str]] = {}
    for call in calls:
        outcomes = counted.setdefault(call.stage, Counter())
        outcomes.update(one.answer.outcome for one in call.tries)
    return {stage: dict(outcomes) for stage, outcomes in counted.items()}
