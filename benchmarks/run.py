"""Measures direct and through each gateway in turn, and says which targets are met.

    python -m benchmarks.run [--quick] [--litellm-python PATH] [--json FILE] [--markdown FILE]

Rounds are interleaved, so that a disturbance of the machine falls on all alike, and every figure
is a median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console

from benchmarks import gateways, machine, report
from benchmarks.gateways import REPOSITORY, Gateway, Kind
from benchmarks.measure import (
    LoadFailed,
    Point,
    StreamShape,
    Subject,
    load_process,
    measure,
    measure_streams,
)
from benchmarks.processes import Memory, NotReady
from benchmarks.summary import (
    CACHED,
    DIRECT,
    ENCODED,
    TARGET_PACE_MS,
    TEXT,
    TWO_SPEED,
    Footprint,
    figures,
    stream_figures,
    verdicts,
)


@dataclass(frozen=True)
class Extent:
    """How much is measured: the full run takes about ten minutes, the quick one under two."""

    rounds: int = 5
    seconds: float = 3.0
    concurrencies: tuple[int, ...] = (1, 16, 64)
    stream_rounds: int = 3
    streams: int = 32
    first_chunk_streams: int = 60
    starts: int = 3
    # Two lengths of each pace, whose difference is what chunks cost.
    streamed: tuple[StreamShape, ...] = (
        *(StreamShape(40, 5), StreamShape(400, 5)),
        *(StreamShape(100, TARGET_PACE_MS), StreamShape(1000, TARGET_PACE_MS)),
        *(StreamShape(100, 0), StreamShape(1000, 0)),
    )
    first_chunk: StreamShape = field(default=StreamShape(3, 5))

    @property
    def models(self) -> list[str]:
        return ["fast", *(shape.model for shape in (*self.streamed, self.first_chunk))]


QUICK = Extent(rounds=1, seconds=1.5, stream_rounds=1, streams=16, first_chunk_streams=20, starts=1)

_SPEEDS = {ENCODED: gateways.ALWAYS, TWO_SPEED: gateways.UNSURE, TEXT: gateways.NEVER}
"""Scenarios in which every prompt is new, and the route that each asks."""


@dataclass
class Progress:
    """Says what is being measured, on standard error, and keeps what was."""

    console: Console
    points: list[Point] = field(default_factory=list)
    streams: list[Point] = field(default_factory=list)

    def say(self, what: str) -> None:
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {what}", highlight=False)


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """The fast upstream in its own process; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fast_upstream"], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def subjects(upstream_port: int, served: Sequence[Gateway]) -> list[Subject]:
    """Direct first, then every scenario of every gateway."""
    found = [Subject(DIRECT, upstream_port)]
    for gateway in served:
        port = gateway.port
        found.append(Subject(f"{gateway.kind.name} pinned", port, gateway=gateway))
        if gateway.kind.routes:
            always = gateways.ALWAYS
            found += [
                Subject(name, port, model=route, prompts="exam", gateway=gateway)
                for name, route in _SPEEDS.items()
                if route in gateway.kind.routes
            ]
            found.append(Subject(CACHED, port, model=always, prompts="repeated", gateway=gateway))
    return found


def warm_up(measured: Sequence[Subject], extent: Extent, progress: Progress) -> None:
    for subject in measured:
        progress.say(f"warming up: {subject.name}")
        seconds = max(extent.seconds / 2, 1.0)
        more = ["--seconds", seconds, "--prompts", subject.prompts, "--seed", _seed(subject)]
        load_process(subject.port, subject.model, 8, more)


def measure_answers(measured: Sequence[Subject], extent: Extent, progress: Progress) -> None:
    for concurrency in extent.concurrencies:
        for round_ in range(extent.rounds):
            progress.say(f"{concurrency} clients, round {round_ + 1} of {extent.rounds}")
            for subject in measured:
                progress.points.append(
                    measure(
                        subject,
                        concurrency=concurrency,
                        round_=round_,
                        seconds=extent.seconds,
                        seed=_seed(subject, concurrency, round_),
                    )
                )


def _seed(subject: Subject, concurrency: int = 0, round_: int = 0) -> int:
    """Prompts that are to be new are new to the whole gateway, whose routes share their vectors."""
    if subject.prompts != "exam":
        return 1
    return 10_000 * (1 + list(_SPEEDS).index(subject.name)) + 100 * concurrency + round_


def measure_all_streams(measured: Sequence[Subject], extent: Extent, progress: Progress) -> None:
    """Streams to a pinned model: what a chunk costs doesn't depend on how its model was chosen."""
    pinned = [subject for subject in measured if subject.model == "fast"]
    for round_ in range(extent.stream_rounds):
        progress.say(f"streams, round {round_ + 1} of {extent.stream_rounds}")
        for subject in pinned:
            at = progress.streams
            count = extent.first_chunk_streams
            shape = extent.first_chunk
            at.append(measure_streams(subject, shape, concurrency=1, round_=round_, count=count))
            for shape in extent.streamed:
                count = extent.streams
                at.append(
                    measure_streams(subject, shape, concurrency=16, round_=round_, count=count)
                )


def start(kind: Kind, upstream_port: int, extent: Extent) -> tuple[Gateway, float, Memory]:
    """A gateway that serves, its median start time and its memory before the first request."""
    taken = []
    for _ in range(extent.starts - 1):
        gateway = Gateway(kind, upstream_port, extent.models)
        taken.append(gateway.start_seconds)
        gateway.stop()
    gateway = Gateway(kind, upstream_port, extent.models)
    taken.append(gateway.start_seconds)
    time.sleep(1.0)
    return gateway, median(taken), gateway.process.memory()


def run(kinds: Sequence[Kind], extent: Extent, progress: Progress) -> dict[str, Any]:
    """Everything that was measured and what follows from it, as JSON has it."""
    found = machine.describe()
    with upstream() as port, contextlib.ExitStack() as stack:
        started = []
        for kind in kinds:
            progress.say(f"starting {kind.name} {kind.version}")
            gateway, seconds, idle = start(kind, port, extent)
            stack.callback(gateway.stop)
            started.append((gateway, seconds, idle))
        measured = subjects(port, [gateway for gateway, _, _ in started])
        warm_up(measured, extent, progress)
        measure_answers(measured, extent, progress)
        measure_all_streams(measured, extent, progress)
        footprints = [
            Footprint(gateway.kind.name, seconds, idle, gateway.process.memory())
            for gateway, seconds, idle in started
        ]
    rows = figures(progress.points)
    paces = dict.fromkeys(shape.pace_ms for shape in extent.streamed)
    streams = [row for pace in paces for row in stream_figures(progress.streams, pace_ms=pace)]
    return {
        "machine": found,
        "versions": {kind.name: kind.version for kind in kinds},
        "extent": asdict(extent),
        "figures": [asdict(row) for row in rows],
        "streams": [asdict(row) for row in streams],
        "footprints": [asdict(footprint) for footprint in footprints],
        "verdicts": [asdict(verdict) for verdict in verdicts(rows, streams, footprints)],
        "points": [asdict(point) for point in (*progress.points, *progress.streams)],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument(
        "--litellm-python",
        type=Path,
        help="Python of an environment with litellm[proxy]; by default the one that "
        "`python -m benchmarks.install_litellm` made, if it did",
    )
    parser.add_argument("--no-litellm", action="store_true", help="leave the rival out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="put the tables between this file's markers"
    )
    return parser.parse_args()


def main() -> int:
    asked = _arguments()
    errors = Console(stderr=True)
    kinds = [gateways.pointsman()]
    rival = asked.litellm_python or gateways.litellm_python()
    if asked.litellm_python and not rival.exists():
        errors.print(f"no such Python: {rival}")
        return 2
    if not asked.no_litellm and rival.exists():
        kinds.append(gateways.litellm(rival))
    elif not asked.no_litellm:
        errors.print("LiteLLM is left out: run python -m benchmarks.install_litellm first")
    try:
        results = run(kinds, QUICK if asked.quick else Extent(), Progress(errors))
    except (NotReady, LoadFailed) as error:
        errors.print(str(error), style="red", markup=False)
        return 1
    report.print_tables(results, Console())
    if asked.json:
        asked.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    if asked.markdown:
        report.fill(asked.markdown, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
