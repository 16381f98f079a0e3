"""What accounting costs a request: keys, limits, reservation, settlement and journal together.

    python -m benchmarks.accounting [--quick] [--json FILE]

Gateways of one checkout in turn, as in `benchmarks.limits`: one without any of it, and one that
asks for a key with seven limits of its own, has seven for everybody, and keeps a ledger; the same
over Redis. Booking goes on in the background meanwhile, and is in the CPU time whole. The same
steps are then taken without a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from app.accounting.key_text import Hasher, new_text
from app.accounting.keyring import Keyring, declared
from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.most import Size
from app.accounting.place import Place
from app.catalog.model import Model, Prices
from app.config import schema
from app.exchange.record import Attempt, Record
from app.exchange.usage import Usage
from app.state.memory import MemoryState
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

NOTHING, EVERYTHING, OVER_REDIS = "nothing", "everything", "everything, over Redis"
SECRET = "the key secret of the benchmark, no secret at all"
KEY_ID = "benchmark"


def everything(text: str) -> dict[str, object]:
    """The part of a configuration that asks for one key, limits and books."""
    entry = {
        "id": KEY_ID,
        "hash": Hasher(SECRET.encode()).written(text),
        "tags": ["benchmark"],
        "limits": EVERY_LIMIT,
    }
    return {"keys": [entry], "limits": EVERY_LIMIT, "ledger": {}}


def served(redis: str | None, rounds: int, seconds: float) -> list[Point]:
    """Every gateway in turn."""
    text = new_text(KEY_ID)
    extents = {NOTHING: {"ledger": None}, EVERYTHING: everything(text)}
    if redis:
        extents[OVER_REDIS] = {**everything(text), "redis": {"url": redis}}
    plain = pointsman()
    environment = {**plain.environment, "POINTSMAN_KEY_SECRET": SECRET}
    with upstream() as port, contextlib.ExitStack() as stack:
        subjects = []
        for name, extra in extents.items():
            kind = replace(
                plain,
                name=name.partition(",")[0],
                write_config=configuration(extra),
                routes=(),
                environment=environment,
            )
            gateway = Gateway(kind, port, ["fast"])
            stack.callback(gateway.stop)
            subjects.append(Subject(name, gateway.port, gateway=gateway, api_key=text))
        return in_turn(subjects, rounds, seconds)


async def steps(room: Path, times: int) -> dict[str, float]:
    """Microseconds of it all in memory, without a server and without the booking."""
    text, hasher = new_text(KEY_ID), Hasher(SECRET.encode())
    written = schema.Key.model_validate(
        {"id": KEY_ID, "hash": hasher.written(text), "tags": ["benchmark"], "limits": EVERY_LIMIT}
    )
    keyring = Keyring(hasher, {KEY_ID: declared(written, hasher)})
    place = Place.compile(schema.Ledger(), room)
    assert place is not None
    place.prepare()
    metrics = Metrics(CollectorRegistry())
    ledger = Ledger(place, metrics)
    model = Model("fast", "u", "fast", Prices(150_000_000, 600_000_000))
    own = {("gateway", ""): Limits.compile(schema.Limits.model_validate(EVERY_LIMIT))}
    limiter = Limiter(MemoryState(), own, [model], metrics)  # type: ignore[arg-type]
    size, sent = Size(400, 100, 100), text.encode()
    taken = []
    for number in range(times):
        begun = time.perf_counter()
        caller = keyring.check(sent)
        record = Record(f"req_{number:024x}", begun, begun, "pinned", key_id=caller.key_id)
        record.tags = caller.tags
        applied = limiter.applied(caller, record.route)
        limiter.foresee(applied)
        record.hold = await limiter.reserve(record.request_id, applied, model, size)
        record.model, record.cost, record.usage = "fast", 75_000, Usage(100, 100)
        record.attempts.append(Attempt("u", "fast", "ok", 0.01, 200, record.usage, cost=75_000))
        limiter.settle(record)
        ledger.append(record)
        taken.append(time.perf_counter() - begun)
    ledger.journal.close()
    return percentiles(taken)


def main() -> None:
    wanted = asked("benchmarks.accounting", __doc__)
    with redis_server(wanted.redis) as url:
        points = served(url, wanted.rounds, wanted.seconds)
    with tempfile.TemporaryDirectory() as room:
        alone = asyncio.run(steps(Path(room), wanted.times))
    report = {
        "machine": machine.describe(),
        "served": compared(points, NOTHING),
        "steps": alone,
        "target_added_p50_ms": TARGET_MS,
        "points": [asdict(point) for point in points],
    }
    _print(report)
    wanted.write(report)


def _print(report: dict[str, Any]) -> None:
    console = Console()
    table = Table("accounting", "clients", "p50 ms", "added ms", "CPU ms a request", "CPU ratio")
    for row in report["served"]:
        table.add_row(
            row["limits"], str(row["clients"]), f"{row['p50_ms']:.3f}",
            f"{row['added_p50_ms']:+.3f}", f"{row['cpu_ms']:.3f}", f"{row['cpu_ratio']:.2f}",
        )  # fmt: skip
    console.print(table)
    alone = report["steps"]
    console.print(
        f"key, limits, reservation, settlement and journal, without a server: "
        f"{alone['p50_us']:.0f} us at p50, {alone['p99_us']:.0f} us at p99"
    )
    added = next(
        row["added_p50_ms"]
        for row in report["served"]
        if (row["limits"], row["clients"]) == (EVERYTHING, 1)
    )
    verdict = "met" if added <= TARGET_MS else "MISSED"
    console.print(f"target, at most {TARGET_MS} ms added at p50 to one client: {verdict}")


if __name__ == "__main__":
    main()
