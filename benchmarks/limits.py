"""What limits cost: the same gateway without any, with all of them in memory, and over Redis.

    python -m benchmarks.limits [--quick] [--json FILE]

Three gateways of one checkout, measured in turn by the same load on a model named by the client;
the figures are ratios and differences within a round, so that what the machine does else falls on
all alike. The same steps are then taken without a server, to see what they cost by themselves.
Redis is a `redis-server` started for it (`--redis URL` takes another).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from app.accounting.caller import Caller
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.most import Size
from app.catalog.model import Model, Prices
from app.exchange.record import Record
from app.exchange.usage import Usage
from app.state.base import State
from app.state.memory import MemoryState
from app.state.redis import RedisCounters
from app.state.shared import SharedState
from app.telemetry.metrics import Metrics
from benchmarks import machine
from benchmarks.gateways import Gateway, pointsman
from benchmarks.measure import Point, Subject, load_process, measure
from benchmarks.processes import free_port
from benchmarks.run import upstream

EVERY_LIMIT: dict[str, object] = {
    "usd_per_day": 1_000_000,
    "usd_per_week": 1_000_000,
    "usd_per_month": 1_000_000,
    "usd_in_all": 1_000_000,
    "requests_per_minute": 100_000_000,
    "tokens_per_minute": 1_000_000_000_000,
    "parallel_requests": 10_000,
}
OFF, MEMORY, REDIS = "no limits", "in memory", "in Redis"
TARGET_MS = 0.15


@contextlib.contextmanager
def redis_server(url: str | None) -> Iterator[str | None]:
    """The address of a Redis; None where none was given and none can be started."""
    program = shutil.which("redis-server")
    if url or not program:
        yield url
        return
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def configuration(extra: dict[str, object]) -> Callable[[str, Sequence[str]], dict[str, object]]:
    def write(base_url: str, models: Sequence[str]) -> dict[str, object]:
        prices = {"input": 0.15, "output": 0.6}
        return {
            "upstreams": {"fast": {"kind": "openai", "base_url": base_url}},
            "models": {model: {"upstream": "fast", "prices": prices} for model in models},
            **extra,
        }

    return write


def served(extents: dict[str, dict[str, object]], rounds: int, seconds: float) -> list[Point]:
    """Every gateway in turn, at one client and at sixteen."""
    points: list[Point] = []
    with upstream() as port, contextlib.ExitStack() as stack:
        subjects = []
        for name, extra in extents.items():
            kind = replace(pointsman(), name=name, write_config=configuration(extra), routes=())
            gateway = Gateway(kind, port, ["fast"])
            stack.callback(gateway.stop)
            subjects.append(Subject(name, gateway.port, gateway=gateway))
        points += in_turn(subjects, rounds, seconds)
    return points


def in_turn(subjects: Sequence[Subject], rounds: int, seconds: float) -> list[Point]:
    """Every subject in each round, at one client and at sixteen, once they are warm."""
    for subject in subjects:
        load_process(
            subject.port, subject.model, 8, ["--seconds", 1.0, "--api-key", subject.api_key]
        )
    return [
        measure(subject, concurrency=concurrency, round_=round_, seconds=seconds, seed=1)
        for concurrency in (1, 16)
        for round_ in range(rounds)
        for subject in subjects
    ]


def compared(points: Sequence[Point], against: str = OFF) -> list[dict[str, Any]]:
    """Medians, and each subject against one of them in the same round."""
    rows = []
    for concurrency in sorted({point.concurrency for point in points}):
        at = [point for point in points if point.concurrency == concurrency]
        base = {point.round: point for point in at if point.subject == against}
        for name in dict.fromkeys(point.subject for point in at):
            own = [point for point in at if point.subject == name]
            rows.append(
                {
                    "limits": name,
                    "clients": concurrency,
                    "p50_ms": median(point.p50_ms for point in own),
                    "added_p50_ms": median(p.p50_ms - base[p.round].p50_ms for p in own),
                    "cpu_ms": median(map(_cpu_ms, own)),
                    "cpu_ratio": median(_cpu_ms(p) / _cpu_ms(base[p.round]) for p in own),
                }
            )
    return rows


def _cpu_ms(point: Point) -> float:
    return 1000 * (point.cpu_seconds or 0.0) / point.requests


async def steps(state: State, times: int) -> dict[str, float]:
    """Microseconds of admission and settlement for a caller with 7 limits of its own, on a route
    with 7 and a gateway with 7: median, and the 99th percentile."""
    limits = Limits(10**15, 10**15, 10**15, 10**15, 10**8, 10**12, 10**4)
    model = Model("fast", "u", "fast", Prices(150_000_000, 600_000_000))
    own = {("gateway", ""): limits, ("route", "auto"): limits}
    limiter = Limiter(state, own, [model], Metrics())  # type: ignore[arg-type]
    caller, size = Caller("k1", limits=limits), Size(400, 100, 100)
    await state.open()
    taken = []
    for number in range(times):
        record = Record(f"{time.monotonic_ns()}-{number}", 0.0, 0.0)
        record.model, record.cost, record.usage = "fast", 75_000, Usage(100, 100)
        begun = time.perf_counter()
        applied = limiter.applied(caller, "auto")
        limiter.foresee(applied)
        record.hold = await limiter.reserve(record.request_id, applied, model, size)
        limiter.settle(record)
        taken.append(time.perf_counter() - begun)
        if number % 50 == 0:
            await state.flush()
    await state.close()
    taken.sort()
    return {"p50_us": 1e6 * taken[times // 2], "p99_us": 1e6 * taken[times * 99 // 100]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--redis", metavar="URL", help="a Redis that is there already")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args()
    rounds, seconds, times = (1, 1.0, 500) if asked.quick else (7, 2.0, 5_000)
    with redis_server(asked.redis) as url:
        extents: dict[str, dict[str, object]] = {OFF: {}, MEMORY: {"limits": EVERY_LIMIT}}
        if url:
            extents[REDIS] = {"limits": EVERY_LIMIT, "redis": {"url": url}}
        points = served(extents, rounds, seconds)
        alone = {MEMORY: asyncio.run(steps(MemoryState(), times))}
        if url:
            alone[REDIS] = asyncio.run(steps(_shared(url), times))
    report = {
        "machine": machine.describe(),
        "served": compared(points),
        "steps_of_21_limits": alone,
        "target_added_p50_ms": TARGET_MS,
        "points": [asdict(point) for point in points],
    }
    _print(report)
    if asked.json:
        asked.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _shared(url: str) -> State:
    return SharedState(RedisCounters(url, prefix="benchmark"))


def _print(report: dict[str, Any]) -> None:
    console = Console()
    table = Table("limits", "clients", "p50 ms", "added ms", "CPU ms a request", "CPU ratio")
    for row in report["served"]:
        table.add_row(
            row["limits"], str(row["clients"]), f"{row['p50_ms']:.3f}",
            f"{row['added_p50_ms']:+.3f}", f"{row['cpu_ms']:.3f}", f"{row['cpu_ratio']:.2f}",
        )  # fmt: skip
    console.print(table)
    for name, one in report["steps_of_21_limits"].items():
        console.print(
            f"21 limits {name}, reserved and settled: {one['p50_us']:.0f} us at p50, "
            f"{one['p99_us']:.0f} us at p99"
        )


if __name__ == "__main__":
    main()
