"""Everything around a gateway fails in turn, under a steady load: whether its clients notice.

    python -m benchmarks.chaos [--minutes 10] [--rate 40] [--json FILE]

One model at three scripted upstreams, asked for by name and over a route that hedges, limits over
a real Redis, a ledger. Faults come to one
deployment, then to two; Redis is frozen, then killed and started anew; the gateway is killed
(`kill -9`) and started again; its configuration changes every second. In the end the ledger is held
against the upstreams' own logs, and the gateway must hold no slot, task, socket or descriptor more
than before.

**What counts.** `benchmarks.failing` says what fails: every request could be served by somebody.
The success ratio is that of requests that reached a living gateway (`benchmarks.steady.success`
says exactly which).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from app.accounting.key_text import new_text
from app.simulated.process import SimulatedUpstream
from benchmarks import asking, machine
from benchmarks.books import Comparison, UpstreamLogs, add_sums, compare
from benchmarks.failing import MODEL, PLACES, ROUTE, STAGES, WELL, Scene, configuration
from benchmarks.living import LivingGateway, Weight
from benchmarks.redis_process import RedisProcess
from benchmarks.steady import Load, Success, by_stage, success

TARGET_RATIO = 0.9999
SPARE_DESCRIPTORS, SPARE_TASKS = 4, 2
"""The ledger's own come and go; so do tasks that wait for the next tick."""
SPARE_SOCKETS = 8
"""Connections to Redis that are kept."""
_IDLE_SECONDS = 75.0
"""Until connections to upstreams that nobody uses are closed."""
_CALM_SECONDS = 30.0
_TICKS_SECONDS = 2.5
"""Booking looks once a second, and only then says how much is pending."""
_GATHER_SECONDS = 1.0
_MOST_NANO = 17_000_000
"""What a request may cost at most here: 4,096 tokens of output, and its input."""


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    success: Success
    stages: dict[str, dict[str, int]]
    unserved: list[str]
    """Calls that no try of theirs brought an answer."""
    books: Comparison
    before: Weight
    after: Weight
    idle: Weight | None
    """After a while without requests, where that was waited for."""
    slots: int
    """Parallel requests that limits still count when nobody asks any more."""
    deployments_in_flight: int
    counted: tuple[int, int]
    """Nano-dollars of the key in Redis: in all, and of it only held."""
    dead: list[tuple[float, float]]
    reloads: list[int]
    tracebacks: int

    @property
    def leaks(self) -> list[str]:
        """What the gateway holds that it did not before."""
        found = [
            ("slots", self.slots, 0),
            ("requests in flight", self.after.in_flight, 0),
            ("requests in flight at deployments", self.deployments_in_flight, 0),
            ("tasks", self.after.tasks, self.before.tasks + SPARE_TASKS),
            ("descriptors", self.after.files, self.before.files + SPARE_DESCRIPTORS),
        ]
        if self.idle is not None:
            most = self.before.sockets + SPARE_SOCKETS
            found.append(("sockets", self.idle.sockets, most))
        return [f"{name}: {count}, not {most}" for name, count, most in found if count > most]

    @property
    def met(self) -> bool:
        return (
            self.success.ratio >= TARGET_RATIO
            and self.books.well
            and not (self.leaks or self.unserved or self.tracebacks)
            and set(self.reloads) == {200}
            and self.budget_fits
        )

    @property
    def budget_fits(self) -> bool:
        """Whether the key's budget counts what the ledger has, and for attempts of which nothing
        was seen no more than they may have cost."""
        more = self.settled - self.books.costs_nano[0]
        return 0 <= more <= self.books.unseen * _MOST_NANO

    @property
    def settled(self) -> int:
        """Nano-dollars that the key's budget counts in Redis, without what killed gateways held."""
        total, held = self.counted
        return total - held

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        told["books"] = self.books.as_json()
        return {**told, "ratio": self.success.ratio, "leaks": self.leaks, "met": self.met}


async def run(
    seconds: float, rate: float, console: Console | None = None, *, idle_seconds: float = 0.0
) -> Result:
    """All stages within so many seconds, and the reckoning. With `idle_seconds` the gateway is left
    alone for so long in the end, so that its idle connections to upstreams are gone as well."""
    keys = {"good": new_text("good")}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisProcess())
        upstreams = {name: stack.enter_context(SimulatedUpstream.start()) for name in PLACES}
        for one in upstreams.values():
            one.script(times=None, **WELL)
        config = configuration(upstreams, redis.url, keys["good"])
        gateway = LivingGateway(config)
        stack.callback(gateway.close)
        await asyncio.to_thread(gateway.start)
        scene = Scene(gateway, redis, upstreams, keys)
        load = Load(gateway.url, (MODEL, ROUTE), keys["good"], "beginning")
        logs = UpstreamLogs(upstreams)
        async with asking.session() as http:
            before = await _settled_in(load, http, gateway)
            sending = asyncio.ensure_future(load.send(rate, http))
            gathering = asyncio.ensure_future(_gather(logs))
            for name, stage, part in STAGES:
                load.stage = name
                if console:
                    console.print(f"{name}, {part * seconds:.0f} s")
                await stage(scene, part * seconds)
            load.over.set()
            await sending
        after, slots = await _calm(gateway, redis, before)
        await asyncio.sleep(idle_seconds)
        idle = await asyncio.to_thread(gateway.weigh) if idle_seconds else None
        gathering.cancel()
        await asyncio.to_thread(logs.gather)
        rows = gateway.booked()
        books = compare(load.calls, rows, logs)
        add_sums(books, gateway.room / ".pointsman" / "ledger.db", rows)
        return Result(
            success=success(load.calls, scene.dead),
            stages=by_stage(load.calls),
            unserved=[call.mark for call in load.calls if not call.served],
            books=books,
            before=before,
            after=after,
            idle=idle,
            slots=slots,
            deployments_in_flight=_at_deployments(gateway),
            counted=redis.spent("key:good"),
            dead=scene.dead,
            reloads=scene.reloads,
            tracebacks=gateway.log().count("Traceback"),
        )


async def _settled_in(load: Load, http: Any, gateway: LivingGateway) -> Weight:
    """What the gateway weighs once it has opened what it opens for its first requests."""
    for number in range(10):
        body = orjson.dumps(
            {"model": MODEL, "messages": [{"role": "user", "content": f"First, {number}"}]}
        )
        await asking.ask(http, load.url, body, api_key=load.api_key)
    await asyncio.sleep(1.0)
    return await asyncio.to_thread(gateway.weigh)


async def _gather(logs: UpstreamLogs) -> None:
    while True:
        await asyncio.to_thread(logs.gather)
        await asyncio.sleep(_GATHER_SECONDS)


async def _calm(gateway: LivingGateway, redis: RedisProcess, base: Weight) -> tuple[Weight, int]:
    """What is held when nobody asks any more: leases of the killed run out, and all is booked."""
    await asyncio.sleep(_TICKS_SECONDS)
    deadline = time.monotonic() + _CALM_SECONDS
    while True:
        weight = await asyncio.to_thread(gateway.weigh)
        slots = await asyncio.to_thread(redis.slots)
        pending = await asyncio.to_thread(gateway.metric, "pointsman_ledger_pending_records")
        quiet = not (weight.in_flight or slots or pending)
        if (quiet and weight.tasks <= base.tasks + SPARE_TASKS) or time.monotonic() > deadline:
            return weight, slots
        await asyncio.sleep(0.25)


def _at_deployments(gateway: LivingGateway) -> int:
    _, body = gateway.request("GET", "/admin/deployments")
    return sum(one["in_flight"] for one in orjson.loads(body)["data"])


def print_tables(result: Result, console: Console) -> None:
    table = Table("stage", "tries", "outcomes")
    for stage, outcomes in result.stages.items():
        told = ", ".join(f"{name}: {count}" for name, count in sorted(outcomes.items()))
        table.add_row(stage, str(sum(outcomes.values())), told)
    console.print(table)
    won, books = result.success, result.books
    console.print(
        f"reached a living gateway: {won.reached}, answered whole: {won.good}: {won.ratio:.5%}; "
        f"while there was none: {won.no_gateway} tries in {len(result.dead)} kills, "
        f"{sum(until - at for at, until in result.dead):.1f} s; never served: "
        f"{len(result.unserved)}"
    )
    for failure in won.failures[:20]:
        console.print(f"  failed: {failure}")
    console.print(
        f"booked: {books.rows} rows, {books.summed} in the sums of days; {books.good} good answers,"
        f" {len(books.without_row)} of them not booked, {len(books.twice)} booked twice; "
        f"{books.compared} requests held against the upstreams' logs, "
        f"{len(books.not_as_asked)} do not fit; "
        f"logs complete: {books.logs_complete}"
    )
    told = ", ".join(f"{name}: {count}" for name, count in sorted(books.attempts.items()))
    console.print(f"attempts booked: {told}")
    _, held = result.counted
    console.print(
        f"nano-dollars: {books.costs_nano[0]} in the ledger, {books.costs_nano[1]} in its sums, "
        f"{result.settled} settled in the key's budget, {held} held there for the killed; "
        f"{books.unseen} attempts of which nothing was seen; fits: {result.budget_fits}"
    )
    console.print(f"before: {result.before}\nafter: {result.after}\nidle: {result.idle}")
    console.print(f"left behind: {result.leaks or 'nothing'}; reloads: {len(result.reloads)}")
    console.print(f"target, {TARGET_RATIO:.2%}, nothing twice, nothing left: "
                  f"{'met' if result.met else 'MISSED'}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args()
    found = machine.describe()
    running = run(asked.minutes * 60, asked.rate, Console(stderr=True), idle_seconds=_IDLE_SECONDS)
    result = uvloop.run(running)
    if asked.json:
        report = {"machine": found, "rate": asked.rate, **result.as_json()}
        asked.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    print_tables(result, Console())
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
