"""The parent of several workers, of which each drains as a single process does.

uvicorn's own supervisor sees a signal at its next look around, up to half a second later, and
answers SIGHUP by starting every worker anew, which ends its streams. Here signals are passed on as
they come. A worker hears some of them twice, from its parent and from a terminal or an init system
that tells the whole group: so only the parent counts, and says SIGQUIT to who shall quit at once.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from socket import socket
from types import FrameType

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Process

from app.api.server import Server, Terminal
from app.telemetry.logs import log

_TICK_SECONDS = 0.1
_LOOK_AROUND = 5
"""Ticks between two looks at whether the workers live."""


class WorkerServer(Server):
    second_quits = False


class Worker(Process):
    """One process that serves, as its parent sees it."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.owes_reload = False

    @property
    def server(self) -> Server:
        """In the worker itself."""
        if not isinstance(self._server, Server):
            self._server = WorkerServer(config=self.config)
        return self._server

    def tell(self, sig: int) -> None:
        if self.process.pid is not None and self.process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, sig)


class Workers:
    """The parent, which serves nothing itself. `run` returns when the last worker has ended."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        self._config = config
        self._sockets = sockets
        self._workers: list[Worker] = []
        self._leaving = False
        self._reload = False
        self._terminal = Terminal()

    def run(self) -> None:
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(sig, self._end)
        signal.signal(signal.SIGHUP, self._hang_up)
        self._workers = [self._started() for _ in range(self._config.workers)]
        tick = 0
        while not self._leaving:
            time.sleep(_TICK_SECONDS)
            self._pass_reload_on()
            tick += 1
            if tick % _LOOK_AROUND == 0:
                self._replace_the_dead()
        # Once more: a worker that was just being started has not heard it.
        self._tell(signal.SIGTERM)
        for listening in self._sockets:
            # Held here too, it would take connections that nobody accepts any more.
            listening.close()
        for worker in self._workers:
            worker.process.join()

    def _started(self) -> Worker:
        worker = Worker(self._config, self._sockets)
        worker.start()
        return worker

    def _end(self, sig: int, frame: FrameType | None) -> None:
        at_once = self._leaving or sig == signal.SIGQUIT
        self._leaving = True
        self._tell(signal.SIGQUIT if at_once else signal.SIGTERM)

    def _hang_up(self, sig: int, frame: FrameType | None) -> None:
        if self._terminal.is_gone:
            self._end(sig, frame)
        else:
            self._reload = True

    def _tell(self, sig: int) -> None:
        for worker in self._workers:
            worker.tell(sig)

    def _pass_reload_on(self) -> None:
        """To each worker once it serves; before that the signal would end it."""
        if self._reload:
            self._reload = False
            for worker in self._workers:
                worker.owes_reload = True
        for worker in self._workers:
            if worker.owes_reload and worker.is_ready(timeout=_TICK_SECONDS):
                worker.owes_reload = False
                worker.tell(signal.SIGHUP)

    def _replace_the_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            alive = worker.is_alive(timeout=self._config.timeout_worker_healthcheck)
            if alive or self._leaving:
                continue
            worker.kill()  # it may hang
            worker.process.join()
            if worker.exitcode == STARTUP_FAILURE:
                # It would fail in the same way for ever.
                log.error("worker %s could not start: the gateway ends", worker.pid)
                self._leaving = True
                return
            log.warning("worker %s died; another one is started", worker.pid)
            self._workers[place] = self._started()
