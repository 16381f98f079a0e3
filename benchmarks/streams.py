"""Many slow streams on one worker: whether a new request still has its first token at once.

    python -m benchmarks.streams [--streams 1000] [--rounds 3] [--json FILE]

So many streams are held open, a chunk a second each, and new streams are asked for one after
another and eight at a time meanwhile: directly at the upstream and through the gateway in turn,
with the streams held on the same way, and once with none held. The load is in processes of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.gateways import REPOSITORY, Gateway, pointsman
from benchmarks.in_turn import configuration
from benchmarks.measure import StreamShape, Subject, measure_streams
from benchmarks.run import upstream

TARGET_MS = 100.0
HELD = StreamShape(600, 1000)
NEW = StreamShape(3, 5)
_COUNTS = {1: 200, 8: 400}
"""How many new streams are asked for, by how many at a time."""


@dataclass(frozen=True)
class Row:
    """Of one way, with or without streams held on it. Times in milliseconds, to the first token."""

    way: str
    held: int
    clients: int
    p50_ms: float
    p99_ms: float


@contextlib.contextmanager
def held(port: int, count: int, told: list[dict[str, float]]) -> Iterator[None]:
    """So many streams are open meanwhile; what came of them is added to `told`."""
    if not count:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.holding", str(port), HELD.model, str(count)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "open\n":
            raise RuntimeError("the streams to be held could not be opened")
        yield
        process.stdin.close()
        told.append(orjson.loads(process.stdout.read()))
    finally:
        process.kill()
        process.wait()


def run(streams: int, rounds: int, console: Console) -> dict[str, Any]:
    """Every way in turn, as JSON has it."""
    found = machine.describe()
    kind = replace(pointsman(), write_config=configuration({"ledger": {}}), routes=())
    points: list[Row] = []
    fared: dict[str, list[dict[str, float]]] = {"direct": [], "gateway": []}
    with upstream() as port, contextlib.ExitStack() as stack:
        gateway = Gateway(kind, port, [HELD.model, NEW.model])
        stack.callback(gateway.stop)
        ways = [Subject("direct", port), Subject("gateway", gateway.port, gateway=gateway)]
        for way in ways:
            measured(way, 0, -1)  # what is loaded with the first request
        for round_ in range(rounds):
            for count in (0, streams):
                for way in ways:
                    console.print(f"round {round_ + 1}: {way.name}, {count} streams held")
                    before = gateway.process.cpu_seconds()
                    with held(way.port, count, fared[way.name]):
                        points += measured(way, count, round_)
                    if count:
                        cpu = gateway.process.cpu_seconds() - before
                        fared[way.name][-1]["gateway_cpu_seconds"] = cpu
        memory = gateway.process.memory()
    rows = [_median(points, way.name, count, clients) for count in (0, streams) for way in ways
            for clients in _COUNTS]  # fmt: skip
    worst = max(row.p99_ms for row in points if row.way == "gateway" and row.held)
    return {
        "machine": found,
        "streams": streams,
        "rounds": rounds,
        "rows": [vars(row) for row in rows],
        "points": [vars(row) for row in points],
        "held": fared,
        "rss_mb": memory.rss_mb,
        "worst_p99_ms": worst,
        "met": worst < TARGET_MS and not any(one["broken"] for one in fared["gateway"]),
    }


def measured(way: Subject, count: int, round_: int) -> list[Row]:
    rows = []
    for clients, asked in _COUNTS.items():
        point = measure_streams(way, NEW, concurrency=clients, round_=round_, count=asked)
        assert point.first_chunk_p50_ms is not None
        assert point.first_chunk_p99_ms is not None
        p50, p99 = point.first_chunk_p50_ms, point.first_chunk_p99_ms
        rows.append(Row(way.name, count, clients, p50, p99))
    return rows


def _median(points: Sequence[Row], way: str, count: int, clients: int) -> Row:
    own = [
        point for point in points if (point.way, point.held, point.clients) == (way, count, clients)
    ]
    p50, p99 = (median(getattr(point, name) for point in own) for name in ("p50_ms", "p99_ms"))
    return Row(way, count, clients, p50, p99)


def print_tables(report: dict[str, Any], console: Console) -> None:
    table = Table("way", "streams held", "new at a time", "first token p50 ms", "p99 ms")
    for row in report["rows"]:
        table.add_row(
            row["way"], str(row["held"]), str(row["clients"]), f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        )  # fmt: skip
    console.print(table)
    for way, all_rounds in report["held"].items():
        for one in all_rounds:
            console.print(
                f"held, {way}: {one['streams']} streams, {one['broken']} broken, "
                f"{one['chunks_per_second']:.0f} chunks/s, between two of one stream "
                f"p50 {one['gap_p50_ms']:.0f} ms, p99 {one['gap_p99_ms']:.0f} ms, "
                f"at most {one['gap_max_ms']:.0f} ms"
            )
    console.print(f"memory of the gateway in the end: {report['rss_mb']:.0f} MB")
    verdict = "met" if report["met"] else "MISSED"
    console.print(
        f"target, p99 under {TARGET_MS:.0f} ms in every round: {verdict}, "
        f"{report['worst_p99_ms']:.1f} ms at worst"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--streams", type=int, default=1_000, help="how many are held open")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args()
    # Two descriptors a stream in the gateway; children inherit the bound.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = run(asked.streams, asked.rounds, Console(stderr=True))
    print_tables(report, Console())
    if asked.json:
        asked.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
