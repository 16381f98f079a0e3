"""`kill -9` at any moment under load: each answer that a client had whole is in the ledger once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from app.accounting import tables
from app.accounting.database import Database
from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, body, free_port

KILLS = 20
CLIENTS = 6


class Fork:
    """Starts gateways of one configuration."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.gateway = 0
        self.url = ""

    def start(self) -> None:
        port = free_port()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._config} {port}\n")
        self._process.stdin.flush()
        self.gateway, self.url = int(self._process.stdout.readline()), f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        if self.gateway:
            os.kill(self.gateway, signal.SIGKILL)
            self.gateway = 0

    def close(self) -> None:
        self.kill()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def fork(database_url: str, simulated: Control, tmp_path: Path) -> Iterator[Fork]:
    config = tmp_path / "config.yaml"
    config.write_text(
        STANDARD.format(upstream=simulated.base_url) + f"ledger: {{url: '{database_url}'}}\n"
    )
    one = Fork(config, tmp_path / "log")
    yield one
    one.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    one = await Database.open(database_url)
    yield one
    await one.close()


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20, verify=False) as one:
        yield one


async def ready(http: httpx2.AsyncClient, url: str) -> None:
    for _ in range(2_000):
        try:
            (await http.get(f"{url}/readyz")).raise_for_status()
            return
        except httpx2.HTTPError:
            await asyncio.sleep(0.01)
    raise AssertionError("the gateway did not start")


async def ask(http: httpx2.AsyncClient, url: str, answered: list[str], *, stream: bool) -> None:
    """Ask until the gateway dies, and note the answers that came whole."""
    while True:
        try:
            reply = await http.post(f"{url}/v1/chat/completions", json=body(stream=stream))
        except httpx2.HTTPError:
            return
        assert reply.status_code == 200
        answered.append(reply.headers["x-pointsman-request-id"])


async def missing(database: Database, ids: list[str]) -> set[str]:
    async with database.read() as connection:
        there = select(tables.requests.c.id).where(tables.requests.c.id.in_(ids))
        return set(ids) - set(await connection.scalars(there))


async def total(database: Database, what: Any) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(what)) or 0)


async def booked(database: Database, ids: list[str]) -> None:
    for _ in range(500):
        absent = await missing(database, ids)
        if not absent:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(absent)} of {len(ids)} are not in the ledger")


async def test_kill_at_any_moment_loses_nothing_and_books_nothing_twice(
    fork: Fork, database: Database, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    moments = random.Random(database.engine.dialect.name)
    answered: list[str] = []
    before: list[str] = []
    fork.start()
    for _ in range(KILLS):
        await ready(http, fork.url)
        now: list[str] = []
        clients = [ask(http, fork.url, now, stream=bool(n % 2)) for n in range(CLIENTS)]
        load = asyncio.gather(*clients)
        while not now:  # noqa: ASYNC110 - a list cannot tell
            await asyncio.sleep(0.001)
        await asyncio.sleep(moments.uniform(0, 0.4))
        fork.kill()
        fork.start()
        await load
        await booked(database, before)
        answered += now
        before = now
    await booked(database, answered)
    assert len(answered) == len(set(answered)) > 10 * KILLS
    # The sums were made in the transactions of the rows: as many, and as dear.
    await until_idle(http, fork.url)
    rows = await total(database, func.count(tables.requests.c.id))
    assert rows >= len(answered)
    assert await total(database, func.sum(tables.daily.c.requests)) == rows
    costs = await total(database, func.sum(tables.requests.c.cost_nano))
    assert await total(database, func.sum(tables.daily.c.cost_nano)) == costs > 0
    assert list((tmp_path / ".pointsman" / "journal").glob("*.rejected")) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


async def until_idle(http: httpx2.AsyncClient, url: str) -> None:
    """Until the last gateway has booked what it found."""
    await ready(http, url)
    for _ in range(400):
        metrics = (await http.get(f"{url}/metrics")).text
        if "pointsman_ledger_pending_records 0.0" in metrics:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("something is pending for ever")
