"""How quickly the dashboard opens over a large ledger.

    python -m benchmarks.dashboard [--rows 1000000] [--url sqlite:///...] [--keep DIR] [--json FILE]

Fills a ledger with a week of requests, makes the short sums of them as after an upgrade (and times
it), serves the gateway over it, and asks every door of the page for every time range; then
opens the page itself in Chromium, where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import orjson
from sqlalchemy import text

from app.accounting import backfill, entries
from app.accounting.booking import _prepared
from app.accounting.database import Database
from app.dashboard.span import RANGES
from app.exchange.record import Attempt, Prediction, Record
from app.exchange.usage import Usage
from benchmarks import machine
from benchmarks.processes import free_port

TARGET_SECONDS = 1.0
WEEK_SECONDS = 7 * 86_400
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SETTLING_SECONDS = 4.0
_BATCH = 2_000
_MODELS = {"small": (0.75, 0.1), "medium": (0.84, 0.4), "large": (0.91, 1.25)}
"""Mean predicted quality, and dollars for a million tokens."""

CONFIG = """
upstreams:
  east: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}
  west: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}
models:
  small: {upstream: east, quality: 0.75, prices: {input: 0.1, output: 0.4}}
  medium: {upstream: west, quality: 0.84, prices: {input: 0.4, output: 1.6}}
  large: {upstream: west, quality: 0.91, prices: {input: 1.25, output: 5}}
routes:
  auto: {candidates: [small, medium, large], baseline: large, router: null}
ledger: {url: 'URL', retention_days: 365}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", help="an empty database; SQLite in a temporary one if absent")
    parser.add_argument("--keep", type=Path, help="leave the database in this directory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    described = machine.describe()
    with tempfile.TemporaryDirectory() as temporary:
        room = options.keep or Path(temporary)
        room.mkdir(parents=True, exist_ok=True)
        url = options.url or f"sqlite:///{room.absolute()}/ledger.db"
        figures = asyncio.run(fill(url, options.rows))
        with served(room, url) as address:
            figures["doors_seconds"] = doors(address)
            figures["page_seconds"] = page(address) if Path(CHROMIUM).exists() else None
    figures |= {"rows": options.rows, "target_seconds": TARGET_SECONDS, "machine": described}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    if options.json:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def made(count: int, now: float) -> Iterator[Record]:
    """Requests over a week, more of them by day, that a router of no great cunning decided."""
    dice = random.Random(1)
    for number in range(count):
        at = now - WEEK_SECONDS * dice.random()
        while dice.random() > 0.55 + 0.45 * math.sin((at / 86_400 - 0.3) * 2 * math.pi):
            at = now - WEEK_SECONDS * dice.random()
        hard = dice.random()
        asked, answered = int(dice.lognormvariate(6, 0.8)), int(dice.lognormvariate(5.3, 0.7))
        predictions = tuple(
            Prediction(
                name,
                min(max(quality - hard * (0.98 - quality) * 1.6, 0.02), 0.99),
                max(quality - 0.25, 0.0),
                min(quality + 0.07, 1.0),
                int((asked + 4 * answered) * price * 1_000),
                eligible=True,
            )
            for name, (quality, price) in _MODELS.items()
        )
        chosen = "small" if hard < 0.62 else "medium" if hard < 0.87 else "large"
        fails, moves = dice.random() < 0.004, dice.random() < 0.012
        first, waits = chosen, dice.lognormvariate(-0.4, 0.55)
        attempts = []
        if moves or fails:
            attempts.append(Attempt(_where(first), first, "server_error", 0.2, 503, charged=False))
            chosen = "large"
        if not fails:
            attempts.append(Attempt(_where(chosen), chosen, "ok", waits, 200))
        price = _MODELS[chosen][1]
        yield Record(
            f"req_{number:024x}", 0.0, 0.0,
            route="auto" if number % 5 else "support", decision="fallback" if moves else "learned",
            reason="meets_bar", speed="encoded", key_id="key_1", tags=("team-a",),
            model=None if fails else chosen, upstream=None if fails else _where(chosen),
            status=502 if fails else 200, outcome="error" if fails else "ok", attempts=attempts,
            usage=None if fails else Usage(asked, answered),
            cost=0 if fails else int((asked + 4 * answered) * price * 1_000),
            baseline_cost=None if fails else int((asked + 4 * answered) * 1_250),
            duration_seconds=waits + 0.004, decide_seconds=0.002, upstream_seconds=waits,
            overhead_seconds=dice.lognormvariate(-6, 0.5),
            first_token_seconds=None if fails or number % 3 else waits * 0.3,
            at=at, predictions=predictions,
        )  # fmt: skip


def _where(model: str) -> str:
    return "east" if model == "small" else "west"


async def fill(url: str, count: int) -> dict[str, float]:
    """Rows as booking would write them, then the short sums as an upgrade would."""
    database = await Database.open(url)
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for record in made(count, time.time()):
        told = entries.entry(entries.line(record).rstrip(b"\n"))
        assert told is not None
        rows.append(entries.request_row(told))
        if len(rows) == _BATCH:
            await _insert(database, rows)
            rows.clear()
    await _insert(database, rows)
    filled = time.perf_counter() - started
    async with database.write() as connection:
        await connection.execute(text("DROP TABLE buckets"))
        await connection.execute(text("DROP TABLE bucket_backfill"))
        await connection.execute(text("UPDATE alembic_version SET version_num = 'r0003_keys'"))
    await database.close()
    started = time.perf_counter()
    database = await Database.open(url)
    upgraded = time.perf_counter() - started
    await backfill.complete(database)
    summed = time.perf_counter() - started - upgraded
    async with database.read() as connection:
        buckets = await connection.scalar(text("SELECT count(*) FROM buckets"))
    await database.close()
    return {
        "filling_seconds": filled,
        "upgrade_seconds": upgraded,
        "summing_up_seconds": summed,
        "buckets": float(buckets or 0),
    }


async def _insert(database: Database, rows: list[dict[str, Any]]) -> None:
    async with database.write() as connection:
        await _prepared(connection.dialect).requests.run(connection, rows)


@contextmanager
def served(room: Path, url: str) -> Iterator[str]:
    config = room / "config.yaml"
    config.write_text(CONFIG.replace("URL", url))
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "serve", "--config", str(config)]
    process = subprocess.Popen([*command, "--port", str(port)], env={**os.environ})
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx2.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx2.HTTPError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(15)


def doors(address: str) -> dict[str, dict[str, float]]:
    """Median and longest of seven looks, by door and time range."""
    told: dict[str, dict[str, float]] = {}
    with httpx2.Client(base_url=address, timeout=60) as http:
        first = time.perf_counter()
        http.get("/dashboard/data/overview").raise_for_status()
        told["the first of all"] = {"seconds": time.perf_counter() - first}
        for door in ("overview", "decisions", "tradeoff"):
            for range_ in RANGES:
                taken = []
                for _ in range(7):
                    started = time.perf_counter()
                    answer = http.get(f"/dashboard/data/{door}", params={"range": range_})
                    answer.raise_for_status()
                    taken.append(time.perf_counter() - started)
                told[f"{door} {range_}"] = {
                    "median": statistics.median(taken),
                    "longest": max(taken),
                }
    return told


def page(address: str) -> dict[str, float]:
    """Seconds from the address typed to figures shown and to charts drawn.

    The browser is one in which nobody looks on: with an inspector attached it compiles the chart
    library several times over. The page says itself when it was ready; it is asked once it is.
    """
    from playwright.sync_api import sync_playwright

    told = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        for name in ("first", "second", "third", "fourth"):
            with browser(profile) as inspector:
                httpx2.put(f"{inspector}/json/new?{address}/dashboard").raise_for_status()
                time.sleep(SETTLING_SECONDS)
                attached = playwright.chromium.connect_over_cdp(inspector)
                [tab] = [one for one in attached.contexts[0].pages if one.url.startswith(address)]
                tab.wait_for_selector("body[data-charts]")
                for mark in ("figures", "charts"):
                    milliseconds = tab.evaluate(
                        "mark => performance.getEntriesByName(mark)[0].startTime", mark
                    )
                    told[f"{name}: {mark}"] = milliseconds / 1000
                started = time.perf_counter()
                tab.check("input[value='7d']", force=True)
                for mark in ("figures", "charts"):
                    tab.wait_for_selector(f"body[data-{mark}='7d']")
                    told[f"{name}: {mark} of a week"] = time.perf_counter() - started
                attached.close()
    return told


@contextmanager
def browser(profile: str) -> Iterator[str]:
    """Chromium with what it keeps in `profile`; gives the address of its inspector."""
    port = free_port()
    command = [CHROMIUM, *ARGUMENTS, "--headless=new", f"--remote-debugging-port={port}"]
    command += [f"--user-data-dir={profile}", "--window-size=1280,990", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        inspector = f"http://127.0.0.1:{port}"
        for _ in range(200):
            with suppress(httpx2.HTTPError):
                httpx2.get(f"{inspector}/json/version").raise_for_status()
                break
            time.sleep(0.05)
        time.sleep(SETTLING_SECONDS)  # a browser that starts is busy with itself
        yield inspector
    finally:
        process.terminate()
        process.wait(15)


if __name__ == "__main__":
    main()
