"""What the ledger costs: at the end of a request, and in the background for each one.

    python -m benchmarks.ledger [--requests 20000] [--directory DIR] [--json FILE]

A request is settled with and without a ledger, in turns, so that what else the machine does falls
on both. Booking is then measured in CPU time of the whole process, the database's thread included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from app.accounting import bookkeeping
from app.accounting.database import Database
from app.accounting.entries import line
from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter
from app.accounting.place import Place
from app.accounting.settlement import Settlement
from app.catalog.model import Model, Prices
from app.config import schema
from app.exchange.record import Attempt, Prediction, Record
from app.exchange.usage import Usage
from app.routing.decision import pin
from app.state.memory import MemoryState
from app.telemetry.metrics import Metrics

TARGET_US = 30.0
MODEL = Model("small", "u", "small", Prices(100_000_000, 400_000_000, cached_input=50_000_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--directory", type=Path, help="where to write; a temporary one if absent")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as room:
        figures = measure(Path(room), options.requests)
    print(table(figures))
    if options.json:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def measure(room: Path, requests: int) -> dict[str, Any]:
    """Microseconds of each step."""
    ledger = _ledger(room)
    without, kept = _settlement(None), _settlement(ledger)
    decision = pin(MODEL)
    times: dict[str, list[float]] = {"settle without": [], "settle with": [], "of it the line": []}
    gc.disable()
    for number in range(requests):
        for name, settlement in (("settle without", without), ("settle with", kept)):
            record = _record(number)
            settlement.metrics.in_flight.inc()
            started = time.perf_counter_ns()
            settlement.settle(record, decision, "ok", 200)
            times[name].append((time.perf_counter_ns() - started) / 1_000)
        record = _record(number)
        started = time.perf_counter_ns()
        line(record)
        times["of it the line"].append((time.perf_counter_ns() - started) / 1_000)
    gc.enable()
    warm = requests // 10
    figures: dict[str, Any] = {
        name: {
            "p50": statistics.median(values[warm:]),
            "p99": statistics.quantiles(values[warm:], n=100)[98],
        }
        for name, values in times.items()
    }
    figures["added p50"] = figures["settle with"]["p50"] - figures["settle without"]["p50"]
    figures["ratio p50"] = figures["settle with"]["p50"] / figures["settle without"]["p50"]
    written = sum(segment.size for segment in ledger.journal.segments)
    figures["bytes a request"] = written / requests
    figures["booking"] = asyncio.run(_book(ledger, requests))
    return figures


async def _book(ledger: Ledger, requests: int) -> dict[str, float]:
    """Work off the journal, and see how long the event loop was held meanwhile."""
    # What is made once is not what a request costs.
    await (await Database.open(ledger.place.url)).close()
    stop = asyncio.Event()
    held: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            held.append((time.perf_counter() - before - 0.001) * 1_000)

    watching = asyncio.get_running_loop().create_task(watch())
    cpu, wall = time.process_time(), time.perf_counter()
    keeping = asyncio.get_running_loop().create_task(bookkeeping.keep(ledger, stop))
    while ledger.pending:  # noqa: ASYNC110 - as the gateway would: it looks now and then
        await asyncio.sleep(0.01)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    stop.set()
    watching.cancel()
    await keeping
    return {
        "CPU us a request": cpu / requests * 1e6,
        "requests/s": requests / wall,
        "loop held p50 ms": statistics.median(held),
        "loop held p99 ms": statistics.quantiles(held, n=100)[98],
    }


def table(figures: dict[str, Any]) -> str:
    steps = ("settle without", "settle with", "of it the line")
    added = figures["added p50"]
    lines = [
        f"{'':22}{'p50 us':>10}{'p99 us':>10}",
        *(f"{name:22}{figures[name]['p50']:>10.1f}{figures[name]['p99']:>10.1f}" for name in steps),
        f"added at p50: {added:.1f} us, ratio {figures['ratio p50']:.2f}",
        f"target, under {TARGET_US:.0f} us: {'met' if added < TARGET_US else 'MISSED'}",
    ]
    lines.append(f"{figures['bytes a request']:.0f} bytes of journal a request")
    lines += [f"booking: {name} {value:,.2f}" for name, value in figures["booking"].items()]
    return "\n".join(lines)


def _settlement(ledger: Ledger | None) -> Settlement:
    metrics = ledger.metrics if ledger else Metrics(CollectorRegistry())
    limits = Limiter(MemoryState(), {}, (MODEL,), metrics)
    return Settlement({"small": MODEL}, metrics, limits, ledger)


def _ledger(room: Path) -> Ledger:
    place = Place.compile(schema.Ledger(), room)
    assert place is not None
    place.prepare()
    return Ledger(place, Metrics(CollectorRegistry()), retention_days=36_500)


def _record(number: int) -> Record:
    now = time.perf_counter()
    return Record(
        f"req_{number:024x}",
        now,
        now,
        route="auto",
        decision="learned",
        reason="cheapest_good_enough",
        speed="encoded",
        key_id="key_0123456789abcdef",
        tags=("team-a",),
        model="small",
        upstream="u",
        attempts=[Attempt("u", "small", "ok", 0.412345, 200)],
        usage=Usage(412, 87, cached_tokens=128),
        predictions=tuple(
            Prediction(f"model-{n}", 0.81234, 0.71234, 0.91234, 123_456, eligible=True)
            for n in range(5)
        ),
    )


if __name__ == "__main__":
    main()
