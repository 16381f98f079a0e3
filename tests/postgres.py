"""A real PostgreSQL for tests: a cluster in a temporary directory, ended with the session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ADVICE = "PostgreSQL is not installed; on Debian: apt-get install postgresql"
START_SECONDS = 30.0


@dataclass
class Postgres:
    """A running server. `stop` and `start` may be called in a test, which must leave it running."""

    folder: Path
    binaries: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            # Nothing here outlives the machine, so nothing waits for the disk.
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **_as_postgres())
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, with every connection cut."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"t{uuid4().hex}"
        command = [str(self.binaries / "createdb"), *self._where(), "-U", "pointsman", name]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgresql://pointsman@127.0.0.1:{self.port}/{name}"

    def _where(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port)]

    def _answers(self) -> bool:
        ready = [str(self.binaries / "pg_isready"), "-q", *self._where()]
        return subprocess.run(ready, check=False).returncode == 0


@contextmanager
def running() -> Iterator[Postgres]:
    """A server on a free port. Skips where there is none to start, but never under CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        assert not os.environ.get("CI"), ADVICE
        pytest.skip(ADVICE)
    binaries = found[-1].parent if found else Path(str(on_path)).parent
    folder = Path(tempfile.mkdtemp(prefix="pointsman-postgres-"))
    one = Postgres(folder, binaries, _free_port())
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "pointsman"]
        options = ["-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*initdb, *options], check=True, capture_output=True, **_as_postgres())
        one.start()
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {"cwd": "/"}
    return {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
