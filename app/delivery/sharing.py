"""Telling other gateways over Redis which deployments are to be left alone, and hearing of theirs.

Off the way of requests: a task leaves what is new, and once a second reads what others have left.
Times are told by the wall clock, so the gateways' should agree to a second or so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from time import time
from typing import Protocol, cast

from app.delivery.deployment import Event
from app.delivery.deployments import Deployments
from app.telemetry.logs import log

_SECONDS = 1.0


class Board(Protocol):
    """Where notices are left, a line a name; neither raises where it can't be reached."""

    async def leave(self, notices: Mapping[str, str]) -> None: ...

    async def read(self) -> Mapping[str, str]: ...


class Sharing:
    """Of one process, known to the others as `process`."""

    def __init__(
        self,
        deployments: Deployments,
        board: Board,
        process: str,
        clock: Callable[[], float] = time,
    ) -> None:
        self._deployments, self._board, self._process = deployments, board, process
        self._clock = clock
        self._new: dict[str, str] = {}
        self._news = asyncio.Event()
        self._heard: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._deployments.on_event = self._note
        task = asyncio.get_running_loop().create_task(self._share())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _note(self, name: str, event: Event, until: float) -> None:
        at = self._clock() + until - self._deployments.clock()
        self._new[f"{event} {name}"] = f"{at:.3f} {self._process}"
        self._news.set()

    async def _share(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.exchange()
            except Exception as error:  # noqa: BLE001 - what others tell must not end the telling
                log.exception("what other gateways say of deployments is no use", exc_info=error)

    async def exchange(self) -> None:
        """Leave what is new and heed what is new of others'."""
        if self._new:
            new, self._new = self._new, {}
            await self._board.leave(new)
        for key, text in (await self._board.read()).items():
            if self._heard.get(key) != text:
                self._heard[key] = text
                self._heed(key, text)

    def _heed(self, key: str, text: str) -> None:
        event, _, name = key.partition(" ")
        at, _, process = text.partition(" ")
        state = self._deployments.get(name)
        if process == self._process or state is None or event not in ("open", "cooldown"):
            return
        left = float(at) - self._clock()
        if left > 0:
            state.told(cast("Event", event), self._deployments.clock() + left)
