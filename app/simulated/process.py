"""The scripted upstream as a child process, which never outlives the process that started it.

The parent opens the listening socket, so the port is known and taken before the child runs; the
child ends when the pipe on its standard input does, as it does even when the parent is killed.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

from app.simulated.control import Control
from app.simulated.serving import open_socket

_START_SECONDS = 10.0
_STOP_SECONDS = 2.0


class SimulatedUpstream(Control):
    """A running child; a context manager that stops it."""

    def __init__(self, host: str, port: int, child: subprocess.Popen[bytes]) -> None:
        super().__init__(host, port)
        self._child = child

    @classmethod
    def start(
        cls, host: str = "127.0.0.1", port: int = 0, *, strict_models: bool = False
    ) -> SimulatedUpstream:
        """Start a child and return once it answers. OSError if the port is taken."""
        listening = open_socket(host, port)
        descriptor = listening.fileno()
        command = [sys.executable, "-m", "app.simulated", str(descriptor)]
        with listening:
            taken = listening.getsockname()[1]
            child = subprocess.Popen(  # noqa: S603 -- our own interpreter and module
                [*command, *(["--strict-models"] if strict_models else [])],
                stdin=subprocess.PIPE,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        upstream = cls(host, taken, child)
        try:
            upstream.healthy(_START_SECONDS)
        except BaseException:
            upstream.stop()
            raise
        return upstream

    @property
    def process_id(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        """End the child and wait for its end."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
