"""What limits cost: the same gateway without any, with all of them in memory, and over Redis.

    python -m benchmarks.limits [--quick] [--json FILE]

Three gateways of one checkout, measured in turn by the same load on a model named by the client;
the figures are ratios and differences within a round, so that what the machine does else falls on
all alike. The same steps are then taken without a server, to see what they cost by themselves.
Redis is a `redis-server` started for it (`--redis URL` takes another).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, replace
from typing import Any

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
from benchmarks.in_turn import (
    EVERY_LIMIT,
    TARGET_MS,
    asked,
    compared,
    configuration,
    in_turn,
    percentiles,
    redis_server,
)
from benchmarks.measure import Point, Subject
from benchmarks.run import upstream

OFF, MEMORY, REDIS = "no limits", "in memory", "in Redis"


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
    return percentiles(taken)


def main() -> None:
    wanted = asked("benchmarks.limits", __doc__)
    with redis_server(wanted.redis) as url:
        extents: dict[str, dict[str, object]] = {OFF: {}, MEMORY: {"limits": EVERY_LIMIT}}
        if url:
            extents[REDIS] = {"limits": EVERY_LIMIT, "redis": {"url": url}}
        points = served(extents, wanted.rounds, wanted.seconds)
        alone = {MEMORY: asyncio.run(steps(MemoryState(), wanted.times))}
        if url:
            alone[REDIS] = asyncio.run(steps(_shared(url), wanted.times))
    report = {
        "machine": machine.describe(),
        "served": compared(points, OFF),
        "steps_of_21_limits": alone,
        "target_added_p50_ms": TARGET_MS,
        "points": [asdict(point) for point in points],
    }
    _print(report)
    wanted.write(report)


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
