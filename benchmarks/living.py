"""A gateway to be weighed, killed, started again and given new configurations while it serves.

It keeps its folder (configuration, journal, ledger) and its port over all of that, as a gateway
that an init system starts again does.
"""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import watched
from benchmarks.gateways import REPOSITORY
from benchmarks.processes import NotReady, ProcessTree, free_port

ADMIN_KEY = "admin-key-of-the-benchmarks-no-secret"
KEY_SECRET = "the key secret of the benchmarks, no secret at all"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Weight:
    """What a gateway holds at one moment; memory in MB (1e6 bytes)."""

    rss_mb: float
    uss_mb: float
    descriptors: int
    sockets: int
    """Of the descriptors, those of TCP: of clients, and of idle connections to upstreams."""
    threads: int
    tasks: int
    objects: int
    in_flight: int

    @property
    def files(self) -> int:
        """Descriptors that are no connections."""
        return self.descriptors - self.sockets


class LivingGateway:
    """One gateway process of a configuration, one worker."""

    def __init__(
        self, config: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self._room = tempfile.TemporaryDirectory(prefix="bench-living-")
        self.room = Path(self._room.name)
        self._environment = {
            "PYTHONPATH": str(REPOSITORY),
            "POINTSMAN_ADMIN_KEY": ADMIN_KEY,
            "POINTSMAN_KEY_SECRET": KEY_SECRET,
            **(environment or {}),
        }
        self._starts = 0
        self._process: ProcessTree | None = None
        self.write(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write(self, config: Mapping[str, Any]) -> None:
        """Write a configuration; one that serves has to be told to read it: `reload`."""
        fresh = self.room / "config.new"
        fresh.write_bytes(orjson.dumps(config))
        fresh.replace(self.room / "config.yaml")

    def begin(self) -> None:
        """Start the process, and do not wait until it serves."""
        self._starts += 1
        self._process = ProcessTree(
            [
                *(sys.executable, "-m", "benchmarks.watched", self._socket, "serve"),
                *("--config", str(self.room / "config.yaml")),
                *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"),
            ],
            directory=self.room,
            log=self.room / f"log-{self._starts}",
            environment=self._environment,
        )

    def start(self) -> float:
        """Start it; the seconds until it was ready. Raises NotReady."""
        self.begin()
        return self.ready()

    def ready(self) -> float:
        """Seconds from the start of the process until it was ready. Raises NotReady."""
        assert self._process is not None
        return self._process.wait_ready(self.port, "/readyz", timeout_seconds=_START_SECONDS)

    def kill(self) -> None:
        """As `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.stop()

    def reload(self) -> int:
        """Tell it to read its configuration; the status of its answer."""
        status, _ = self.request("POST", "/admin/reload")
        return status

    def request(self, method: str, path: str, timeout_seconds: float = 30.0) -> tuple[int, bytes]:
        """Ask one of its doors with the admin's key: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            connection.request(method, path, headers={"authorization": f"Bearer {ADMIN_KEY}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        _, text = self.request("GET", "/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def weigh(self) -> Weight:
        process = psutil.Process(self.pid)
        memory = process.memory_full_info()
        told = watched.ask(self._socket)
        return Weight(
            rss_mb=memory.rss / 1e6,
            uss_mb=memory.uss / 1e6,
            descriptors=process.num_fds(),
            sockets=len(process.net_connections(kind="tcp")),
            threads=process.num_threads(),
            tasks=told["tasks"],
            objects=told["objects"],
            in_flight=round(self.metric("pointsman_requests_in_flight")),
        )

    def look(self) -> dict[str, Any]:
        """All that the process tells of its inside."""
        return watched.ask(self._socket)

    def booked(self) -> list[dict[str, Any]]:
        """Every row of its ledger, as it stands."""
        with closing(sqlite3.connect(self.room / ".pointsman" / "ledger.db", timeout=30)) as one:
            one.row_factory = sqlite3.Row
            rows = [dict(row) for row in one.execute("select * from requests")]
        return [{**row, "attempts": orjson.loads(row["attempts"])} for row in rows]

    def log(self) -> str:
        """What all its processes logged."""
        logs = sorted(self.room.glob("log-*"))
        return "".join(log.read_text(errors="replace") for log in logs)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def close(self) -> None:
        self.stop()
        self._room.cleanup()

    @property
    def _socket(self) -> str:
        return str(self.room / f"look-{self._starts}")


__all__ = ["ADMIN_KEY", "KEY_SECRET", "LivingGateway", "NotReady", "Weight"]
