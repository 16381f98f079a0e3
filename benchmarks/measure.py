"""One measurement after another: a load in its own process, and the gateway's CPU time around it.

Every figure is of one round; what follows from all rounds is the summary's concern.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.gateways import REPOSITORY, Gateway
from benchmarks.prompts import Prompts

_SETTLE_SECONDS = 0.4
"""What a gateway puts off until after its answers (ledger, metrics) is part of their cost."""


class LoadFailed(RuntimeError):
    """Answers were wrong, so the measurement says nothing."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a scenario at a gateway, or the upstream itself."""

    name: str
    port: int
    model: str = "fast"
    prompts: Prompts = "fixed"
    gateway: Gateway | None = None
    api_key: str = "sk-benchmark"

    @property
    def routed(self) -> Gateway | None:
        """The gateway, if it is to choose the model."""
        gateway = self.gateway
        return gateway if gateway and self.model in gateway.kind.routes else None


@dataclass(frozen=True)
class Point:
    """One load on one subject. Times in milliseconds but for `seconds` and `cpu_seconds`."""

    subject: str
    concurrency: int
    round: int
    model: str
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float | None
    chunks: int = 0
    first_chunk_p50_ms: float | None = None
    first_chunk_p99_ms: float | None = None
    encoded_share: float | None = None
    """Of the prompts that were predicted, how many the encoder ran for."""


@dataclass(frozen=True)
class StreamShape:
    """Streams of this many chunks, this many milliseconds apart."""

    chunks: int
    pace_ms: int

    @property
    def model(self) -> str:
        return f"fast-{self.chunks}x{self.pace_ms}"


def measure(subject: Subject, *, concurrency: int, round_: int, seconds: float, seed: int) -> Point:
    """Whole answers for a fixed time."""
    return _measure(
        subject,
        subject.model,
        concurrency,
        round_,
        ["--seconds", seconds, "--prompts", subject.prompts, "--seed", seed],
    )


def measure_streams(
    subject: Subject, shape: StreamShape, *, concurrency: int, round_: int, count: int
) -> Point:
    """A fixed number of streams, each of which must have all its chunks."""
    return _measure(
        subject,
        shape.model,
        concurrency,
        round_,
        ["--count", count, "--stream", "--chunks", shape.chunks],
    )


def _measure(
    subject: Subject, model: str, concurrency: int, round_: int, more: list[object]
) -> Point:
    process = subject.gateway.process if subject.gateway else None
    predicted = subject.routed.predictions(model) if subject.routed else {}
    before = process.cpu_seconds() if process else 0.0
    more = [*more, "--api-key", subject.api_key]
    outcome = load_process(subject.port, model, concurrency, more)
    if outcome["errors"] or not outcome["requests"]:
        raise LoadFailed(f"{subject.name} at {concurrency} clients: {outcome}")
    cpu = None
    if process:
        time.sleep(_SETTLE_SECONDS)
        cpu = process.cpu_seconds() - before
    first = outcome["first_chunk"] or {"p50": None, "p99": None}
    return Point(
        subject=subject.name,
        concurrency=concurrency,
        round=round_,
        model=model,
        requests=outcome["requests"],
        seconds=outcome["seconds"],
        p50_ms=outcome["latency"]["p50"],
        p99_ms=outcome["latency"]["p99"],
        cpu_seconds=cpu,
        chunks=outcome["chunks"],
        first_chunk_p50_ms=first["p50"],
        first_chunk_p99_ms=first["p99"],
        encoded_share=_encoded_share(predicted, subject.routed.predictions(model))
        if subject.routed
        else None,
    )


def _encoded_share(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    grown = {speed: count - before.get(speed, 0.0) for speed, count in after.items()}
    predicted = sum(grown.values())
    return grown.get("encoded", 0.0) / predicted if predicted else None


def load_process(port: int, model: str, concurrency: int, more: list[object]) -> dict[str, Any]:
    """Runs `benchmarks.load` as a process of its own and reads its outcome."""
    command = [
        *(sys.executable, "-m", "benchmarks.load"),
        *("--port", port, "--model", model, "--concurrency", concurrency),
        *more,
    ]
    done = subprocess.run(
        [str(part) for part in command], cwd=REPOSITORY, capture_output=True, check=False
    )
    if done.returncode:
        raise LoadFailed(done.stderr.decode(errors="replace")[-2000:])
    outcome: dict[str, Any] = orjson.loads(done.stdout)
    return outcome
