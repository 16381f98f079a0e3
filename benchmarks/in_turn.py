"""Gateways of one checkout in turn, with more and more of accounting: what its benchmarks share.

Measured by the same load on a model named by the client; the figures are ratios and differences
within a round, so that what the machine does else falls on all alike. Redis is a `redis-server`
started for it (`--redis URL` takes another).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.measure import Point, Subject, load_process, measure
from benchmarks.processes import free_port

EVERY_LIMIT: dict[str, object] = {
    "usd_per_day": 1_000_000,
    "usd_per_week": 1_000_000,
    "usd_per_month": 1_000_000,
    "usd_in_all": 1_000_000,
    "requests_per_minute": 100_000_000,
    "tokens_per_minute": 1_000_000_000_000,
    "parallel_requests": 10_000,
}
TARGET_MS = 0.15
"""What accounting may add at p50 to one client, in memory."""
STEPS, QUICK_STEPS = 5_000, 500


class Asked(argparse.Namespace):
    """What a command line asks for."""

    quick: bool
    redis: str | None
    json: Path | None

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 7

    @property
    def seconds(self) -> float:
        return 1.0 if self.quick else 2.0

    @property
    def times(self) -> int:
        """How often steps are taken without a server."""
        return QUICK_STEPS if self.quick else STEPS

    def write(self, report: dict[str, Any]) -> None:
        if self.json:
            self.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def asked(program: str, description: str | None) -> Asked:
    """The command line, read."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--redis", metavar="URL", help="a Redis that is there already")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    return parser.parse_args(namespace=Asked())


def percentiles(taken: list[float]) -> dict[str, float]:
    """Microseconds, of seconds."""
    taken = sorted(taken)
    middle, late = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    return {"p50_us": 1e6 * middle, "p99_us": 1e6 * late}


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


def compared(points: Sequence[Point], against: str) -> list[dict[str, Any]]:
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
