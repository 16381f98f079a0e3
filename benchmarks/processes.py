"""A process tree under measurement: started, waited ready, weighed and stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_STOP_SECONDS = 10.0


class NotReady(RuntimeError):
    """A process ended or stayed silent instead of becoming ready; carries the end of its log."""


@dataclass(frozen=True)
class Memory:
    """Of a process tree, in MB (1e6 bytes). PSS counts a page shared by n processes 1/n times."""

    rss_mb: float
    pss_mb: float


class ProcessTree:
    """A command and everything it starts."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._child.pid)

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_ready(self, port: int, path: str, *, timeout_seconds: float) -> float:
        """Asks `path` until it answers 200; gives the seconds from process start to then."""
        while time.perf_counter() - self.started < timeout_seconds:
            if self._child.poll() is not None:
                raise NotReady(f"ended with status {self._child.returncode}:\n{self._log_end()}")
            if _answers(port, path):
                return time.perf_counter() - self.started
            time.sleep(0.01)
        raise NotReady(f"not ready after {timeout_seconds} s:\n{self._log_end()}")

    def cpu_seconds(self) -> float:
        """User and system time of the tree since its start, with that of children that ended."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> Memory:
        rss = pss = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes = process.memory_full_info()
                rss += sizes.rss
                pss += sizes.pss
        return Memory(rss_mb=rss / 1e6, pss_mb=pss / 1e6)

    def stop(self) -> None:
        """Asks the tree to end, and ends what of it does not."""
        processes = list(self._tree())
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_STOP_SECONDS)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_STOP_SECONDS)

    def _tree(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield self._root
            yield from self._root.children(recursive=True)

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
