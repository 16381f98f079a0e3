"""uvicorn's server with an end that nobody notices: SIGTERM makes it not ready at once, then it
serves on while the news spreads, stops listening, lets what runs end, and cuts off what does not.

uvicorn stops listening at once, and cancels what is left without a word to its client. The times
come with the application, in the `drain` of its lifespan's state. What is settled goes into the
ledger when the lifespan ends, which bounds itself; CUT_SECONDS and that are ENDING_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from types import FrameType
from typing import Any

import uvicorn

from app.delivery.drain import Drain
from app.telemetry.logs import log

CUT_SECONDS = 1.0
"""How long clients have to take the last words of what was cut off."""
ENDING_SECONDS = 10.0
"""Beyond delay and timeout: the longest that cutting off and closing the ledger take."""
_QUIT_SECONDS = 0.1


class Server(uvicorn.Server):
    """One process. The first SIGTERM or SIGINT drains it, a second one quits at once, as SIGQUIT
    does; SIGHUP asks the application to read its configuration again."""

    second_quits = True

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = False
        self._stop_listening_at: float | None = None
        self._terminal = Terminal()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again when all is done, and so ends by it and not in order.
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGHUP: self._hang_up,
            signal.SIGQUIT: self._quit_by,
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Handlers run between any two steps of whatever goes on: they set a mark and leave the rest,
    # such as logging, to the loop.

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._leaving:
            if self.second_quits:
                self._quit_by(sig, frame)
            return
        self._leaving = True
        if self.started:
            self._state["drain"].draining = True
            self._loop.call_soon_threadsafe(self._drain)
        else:
            self.should_exit = True

    def _hang_up(self, sig: int, frame: FrameType | None) -> None:
        if self._terminal.is_gone:
            self.handle_exit(sig, frame)
        elif self.started:
            self._loop.call_soon_threadsafe(self._state["reload"])

    def _quit_by(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            os._exit(128 + sig)
        self._loop.call_soon_threadsafe(self._quit, sig)

    @property
    def _state(self) -> dict[str, Any]:
        """What the application's lifespan has yielded."""
        state: dict[str, Any] = self.lifespan.state
        return state

    # --- in order ----------------------------------------------------------------------------

    def _drain(self) -> None:
        drain: Drain = self._state["drain"]
        self._stop_listening_at = self._loop.time() + drain.delay_seconds
        # Who keeps a connection must come by a new one, which is led elsewhere.
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = self.config.encoded_headers
        log.info(
            "draining: listening for %g s more, then what runs has %g s to end",
            drain.delay_seconds, drain.timeout_seconds,
        )  # fmt: skip

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter)
        until = self._stop_listening_at
        return ends or (until is not None and asyncio.get_running_loop().time() >= until)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_off())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off(self) -> None:
        """uvicorn waits until there is neither a connection nor a request, which is made so."""
        drain: Drain = self._state["drain"]
        await asyncio.sleep(drain.timeout_seconds)
        self._cancel_all()
        await asyncio.sleep(CUT_SECONDS)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def _cancel_all(self) -> None:
        drain: Drain = self._state["drain"]
        drain.draining = drain.over = True
        running = list(self.server_state.tasks)
        if running:
            log.warning("%d requests outlasted the time to end and are cut off", len(running))
        for task in running:
            task.cancel()

    # --- at once -----------------------------------------------------------------------------

    def _quit(self, sig: int) -> None:
        # What runs is told and goes into the journal, from where the next start books it.
        log.warning("quitting at once")
        self._cancel_all()
        asyncio.get_running_loop().call_later(_QUIT_SECONDS, os._exit, 128 + sig)


class Terminal:
    """The window that a process was started in. Its closing is told by SIGHUP, and asks for
    something else than a `kill -HUP` does."""

    def __init__(self) -> None:
        # Who starts it by nohup means it to outlive the window.
        self._had = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_there()

    @property
    def is_gone(self) -> bool:
        return self._had and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
