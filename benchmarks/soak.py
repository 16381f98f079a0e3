"""An hour of mixed traffic at a steady rate: does a gateway hold in the end what it held before?

    python -m benchmarks.soak [--minutes 60] [--rate 25] [--json FILE]

First what remembers prompts is filled with new ones (`--fill`; 0 leaves them to the traffic),
because what fills up is no leak and what leaks never fills up. Then `benchmarks.mixed` is sent for
so long, with keys, limits, ledger and a router, over two scripted upstreams of which one has a
fault every few seconds. Every ten seconds the gateway is weighed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from app.accounting.key_text import Hasher, new_text
from app.simulated.faults import FAULTS
from app.simulated.process import SimulatedUpstream
from benchmarks import asking, machine
from benchmarks.in_turn import EVERY_LIMIT
from benchmarks.living import KEY_SECRET, LivingGateway, Weight
from benchmarks.mixed import Asked, fresh, mixed

SAMPLE_SECONDS, FAULT_SECONDS = 10.0, 5.0
TARGET_GROWTH = 0.05
FILLING = 20_500
"""New prompts, about a sixth of which are encoded: more than there is room for."""
ENCODER_ENTRIES = 2_000
"""Vectors and estimates to remember: fewer than by default, so that they are soon full."""
_MINUTE = 6
"""Samples of one."""
_HEAVY = {"gzip_bomb", "endless_head", "endless_body", "endless_event", "huge_headers"}
"""Faults that cost the machine a second each: sent once and not ten times."""
_CALM_SECONDS = 90.0
_IDLE_SECONDS = 75.0
"""Until connections to upstreams that nobody uses are closed: the gateway does so after 60."""
_SPARE_DESCRIPTORS = 4
"""The journal's segments and connections to the database come and go."""
_FILLING = 12
"""Clients that fill at once."""


@dataclass
class Soak:
    """What was seen so far."""

    weights: list[tuple[float, Weight]] = field(default_factory=list)
    """By seconds from the beginning of the traffic."""
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    late_seconds: float = 0.0
    """How far the load fell behind its own rate at most."""


def configuration(well: str, faulty: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """A gateway with everything on that a deployment without servers beside it has."""
    timeouts = {
        "connect_seconds": 2, "first_byte_seconds": 3, "idle_seconds": 3, "total_seconds": 20,
    }  # fmt: skip
    hasher = Hasher(KEY_SECRET.encode())
    narrow = {**EVERY_LIMIT, "requests_per_minute": 10}
    entries = [
        {"id": name, "hash": hasher.written(text), "tags": [name], "limits": limits}
        for (name, text), limits in zip(keys.items(), (EVERY_LIMIT, narrow), strict=True)
    ]
    names = {
        "small": ("Meta-Llama-3.1-8B-Instruct", 0.05),
        "medium": ("gpt-4o-mini-2024-07-18", 0.15),
        "large": ("gpt-4o-2024-08-06", 2.5),
    }
    models = {
        name: {
            "deployments": [{"upstream": "faulty", "weight": 2}, {"upstream": "well"}],
            "prices": {"input": price, "cached_input": price / 2, "output": price * 4},
            "capabilities": ["tools", "vision", "json_object"],
            "like": like,
        }
        for name, (like, price) in names.items()
    }
    route = {"candidates": list(models), "baseline": "large", "router": "default"}
    return {
        "upstreams": {
            name: {"kind": "openai", "base_url": url, "timeouts": timeouts}
            for name, url in (("well", well), ("faulty", faulty))
        },
        "models": models,
        "routes": {"auto": route, "going-on": {**route, "on_stream_failure": "continue"}},
        "keys": entries,
        "limits": EVERY_LIMIT,
        "encoder": {"cache_entries": ENCODER_ENTRIES},
        "ledger": {},
    }


async def fill(url: str, key: str, count: int) -> None:
    """New prompts as fast as they are answered."""
    bodies = fresh(2)
    left = count

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await asking.ask(http, url, next(bodies))

    async with asking.session(key) as http:
        await asyncio.gather(*(client() for _ in range(_FILLING)))


async def send(url: str, keys: Mapping[str, str], rate: float, seconds: float, soak: Soak) -> None:
    """The mixed traffic, each request at its time whether the others are answered or not."""
    running: set[asyncio.Task[None]] = set()
    started = time.monotonic()

    async def one(asked: Asked, http: aiohttp.ClientSession) -> None:
        answer = await asking.ask(http, url, asked.body, asked.leave, keys.get(asked.key, "pm-no"))
        code = f" {answer.code}" if answer.code else ""
        soak.outcomes[asked.kind][f"{answer.outcome}{code}"] += 1

    async with asking.session() as http:
        for number, asked in enumerate(mixed(1)):
            due = started + number / rate
            if due - started > seconds:
                break
            wait = due - time.monotonic()
            soak.late_seconds = max(soak.late_seconds, -wait)
            await asyncio.sleep(max(wait, 0))
            task = asyncio.ensure_future(one(asked, http))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=60)


async def disturb(upstream: SimulatedUpstream) -> None:
    """The next fault every few seconds, until cancelled."""
    while True:
        for fault in FAULTS:
            times = 1 if fault in _HEAVY else 10
            await asyncio.to_thread(upstream.script, times=times, fault=fault)
            await asyncio.sleep(FAULT_SECONDS)


async def weigh(gateway: LivingGateway, soak: Soak) -> None:
    """Put the gateway on the scales every ten seconds, until cancelled."""
    started = time.monotonic()
    while True:
        due = started + SAMPLE_SECONDS * (len(soak.weights) + 1)
        await asyncio.sleep(max(due - time.monotonic(), 0))
        weight = await asyncio.to_thread(gateway.weigh)
        soak.weights.append((time.monotonic() - started, weight))


async def calm(gateway: LivingGateway, base: Weight) -> Weight:
    """The gateway once nothing is in flight and idle connections are gone, or after a while."""
    deadline = time.monotonic() + _CALM_SECONDS
    while True:
        weight = await asyncio.to_thread(gateway.weigh)
        quiet = weight.in_flight == 0 and weight.tasks <= base.tasks
        closed = weight.descriptors <= base.descriptors + _SPARE_DESCRIPTORS
        if (quiet and closed) or time.monotonic() > deadline:
            return weight
        await asyncio.sleep(1.0)


async def run(minutes: float, rate: float, filling: int, console: Console) -> dict[str, Any]:
    """A whole soak, as JSON has it."""
    found = machine.describe()
    keys = {"good": new_text("good"), "narrow": new_text("narrow")}
    soak = Soak()
    with contextlib.ExitStack() as stack:
        well, faulty = (stack.enter_context(SimulatedUpstream.start()) for _ in range(2))
        gateway = LivingGateway(configuration(well.base_url, faulty.base_url, keys))
        stack.callback(gateway.close)
        gateway.start()
        await fill(gateway.url, keys["good"], _FILLING)
        idle = gateway.weigh()
        console.print(f"after its first requests: {idle}")
        await fill(gateway.url, keys["good"], filling)
        await asyncio.sleep(_IDLE_SECONDS)
        base = gateway.weigh()
        console.print(f"after {filling} prompts that were new: {base}")
        beside = [
            asyncio.ensure_future(weigh(gateway, soak)),
            asyncio.ensure_future(disturb(faulty)),
        ]
        kinds = gateway.look()
        await send(gateway.url, keys, rate, minutes * 60, soak)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        after = await calm(gateway, base)
        console.print(f"after it: {after}")
        inside = {"before": kinds, "after": gateway.look()}
        booked = len(gateway.booked())
        faults_of_ours = gateway.log().count("Traceback")
    report = {
        "machine": found,
        "minutes": minutes,
        "rate": rate,
        "filled_with": filling,
        "idle": asdict(idle),
        "filled": asdict(base),
        "after": asdict(after),
        "samples": [{"seconds": at, **asdict(weight)} for at, weight in soak.weights],
        "outcomes": {kind: dict(counted) for kind, counted in soak.outcomes.items()},
        "late_seconds": soak.late_seconds,
        "booked": booked,
        "tracebacks": faults_of_ours,
        "inside": inside,
    }
    return {**report, **verdict(soak.weights, base, after, minutes)}


def verdict(
    weights: Sequence[tuple[float, Weight]], base: Weight, after: Weight, minutes: float
) -> dict[str, Any]:
    """Memory of the last minute against that after five (of a short run: after a quarter)."""
    settled = 60 * (5.0 if minutes >= 10 else minutes / 4)
    weights = [(at, weight) for at, weight in weights if at <= 60 * minutes + 1]
    early = [weight for at, weight in weights if at >= settled][:_MINUTE]
    late = [weight for _, weight in weights][-_MINUTE:]
    rss = [median(weight.rss_mb for weight in some) for some in (early, late)]
    uss = [median(weight.uss_mb for weight in some) for some in (early, late)]
    return {
        "rss_mb": rss,
        "uss_mb": uss,
        "rss_growth": rss[1] / rss[0] - 1,
        "uss_growth": uss[1] / uss[0] - 1,
        "most_rss_mb": max(weight.rss_mb for _, weight in weights),
        "descriptors": [base.descriptors, after.descriptors],
        "tasks": [base.tasks, after.tasks],
        "in_flight": after.in_flight,
        "met": rss[1] / rss[0] - 1 <= TARGET_GROWTH
        and after.in_flight == 0
        and after.descriptors <= base.descriptors + _SPARE_DESCRIPTORS
        and after.tasks <= base.tasks,
    }


def print_tables(report: Mapping[str, Any], console: Console) -> None:
    table = Table("minute", "RSS MB", "USS MB", "descriptors", "tasks", "in flight")
    samples = report["samples"]
    step = max(len(samples) // 12, 1)
    for sample in samples[step - 1 :: step]:
        table.add_row(
            f"{sample['seconds'] / 60:.1f}", f"{sample['rss_mb']:.1f}", f"{sample['uss_mb']:.1f}",
            str(sample["descriptors"]), str(sample["tasks"]), str(sample["in_flight"]),
        )  # fmt: skip
    console.print(table)
    table = Table("traffic", "requests", "outcomes")
    for kind, counted in sorted(report["outcomes"].items()):
        told = ", ".join(f"{name}: {count}" for name, count in Counter(counted).most_common())
        table.add_row(kind, str(sum(counted.values())), told)
    console.print(table)
    for name in ("rss", "uss"):
        early, late = report[f"{name}_mb"]
        growth = report[f"{name}_growth"]
        console.print(f"{name.upper()}: {early:.1f} MB, at the end {late:.1f} MB: {growth:+.1%}")
    for name in ("descriptors", "tasks"):
        before, after = report[name]
        console.print(f"{name}: {before} before, {after} after")
    console.print(f"in flight after: {report['in_flight']}; met: {report['met']}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second")
    parser.add_argument("--fill", type=int, default=FILLING, help="new prompts sent before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args()
    console = Console(stderr=True)
    report = uvloop.run(run(asked.minutes, asked.rate, asked.fill, console))
    if asked.json:
        asked.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    print_tables(report, Console())
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
