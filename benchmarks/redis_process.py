"""A real redis-server on loopback, to be stopped, frozen and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis

from benchmarks.processes import NotReady, free_port

_START_SECONDS = 10.0


class RedisProcess:
    """One server with a folder of its own, started on entering. It forgets everything when killed,
    as a cache does, unless `saving`. FileNotFoundError where there is no `redis-server`."""

    def __init__(self, *, saving: bool = False) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not there: apt-get install redis-server")
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="pointsman-redis-")
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name,
            "--save", "", "--appendonly", "yes" if saving else "no", "--appendfsync", "always",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        log = Path(self._folder.name) / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"redis-server does not answer:\n{log.read_text()}")
            time.sleep(0.005)

    def answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG"
        except OSError:
            return False

    def command(self, *words: str, lines: int = 1) -> bytes:
        """One command, inline; a line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(4096).split(b"\r\n")[lines - 1]

    def freeze(self) -> None:
        """It does nothing more from here on: a signal is heeded a moment after it is sent."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def slots(self) -> int:
        """Parallel requests that limits count now, over all of them."""
        with self._client() as client:
            now = client.time()[0] * 1000
            keys = client.keys("{pointsman}:parallel:*")
            return sum(client.zcount(key, now, "+inf") for key in keys)

    def spent(self, scope: str) -> tuple[int, int]:
        """Nano-dollars counted for a scope in all, and how many of them are only held."""
        with self._client() as client:
            told = client.hmget(f"{{pointsman}}:usd:{scope}:all", "t", "h")
            return int(told[0] or 0), int(told[1] or 0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
        self._folder.cleanup()

    def _client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5.0)

    def _signal(self, sig: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(sig)
