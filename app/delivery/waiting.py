"""Telling a client that its stream is still being worked on, while nothing of it has come.

Proxies and clients cut a connection that is silent for long, and a model may think for longer. A
comment keeps it open, at a price: with it the status 200 and the headers are sent. Another model
can still take over unseen, but a failure can then only be an error event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from app.delivery.attempt import Opened
from app.delivery.continuation import Relaying
from app.delivery.drain import Drain
from app.delivery.relay import stopped_event
from app.wire import sse

Result = TypeVar("Result")


async def within(
    work: Coroutine[Any, Any, Result], seconds: float
) -> Result | asyncio.Task[Result]:
    """What the work gives or raises, or the task that goes on with it when the time is over.

    Cancelled, it returns when the work has ended, so that what was tried is noted.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled() or task.exception() is not None:
            raise
        # It came in that very moment. Who takes it meets the cancellation again, and closes it.
        if (caller := asyncio.current_task()) is not None:
            caller.uncancel()
            caller.cancel()
        return task.result()
    return task.result() if done else task


class Waiting:
    """The events of a stream that is yet to begin: comments, and then its own.

    `began` gives the relay of the opened stream, `failed` books an error and gives what to tell the
    client, `gone` books that it left; one of them is called, once.
    """

    def __init__(
        self,
        delivery: asyncio.Task[Any],
        seconds: float,
        *,
        began: Callable[[Opened], Relaying],
        failed: Callable[[Exception], bytes],
        gone: Callable[[], None],
        drain: Drain | None = None,
    ) -> None:
        self._delivery = delivery
        self._seconds = seconds
        self._began, self._failed, self._gone = began, failed, gone
        self._drain = drain or Drain()
        self._relay: Relaying | None = None
        self._told = False

    async def events(self) -> AsyncIterator[bytes]:
        """Blocks of whole events and comments for the client."""
        while not self._delivery.done():
            yield sse.KEEP_ALIVE
            try:
                await asyncio.wait([self._delivery], timeout=self._seconds)
            except asyncio.CancelledError:
                if not self._drain.over:
                    raise
                yield stopped_event()
                return
        try:
            opened = self._delivery.result()
        except Exception as error:  # noqa: BLE001 - a bug of ours must still be told
            self._told = True
            yield self._failed(error)
            return
        self._relay = self._began(opened)
        async for block in self._relay.events():
            yield block

    def close(self) -> None:
        """Must be called by who reads: cancels what is still at work, and settles."""
        if self._relay is not None:
            self._relay.close()
        elif not self._told:
            self._told = True
            self._delivery.cancel()
            # Booked when it has ended: only then its attempts are noted.
            self._delivery.add_done_callback(self._left)

    def _left(self, delivery: asyncio.Task[Any]) -> None:
        if delivery.cancelled() or delivery.exception() is not None:
            self._gone()
        else:
            self._began(delivery.result()).close()
