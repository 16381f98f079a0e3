"""From the points of all rounds to figures: medians, what is added to direct, ratios, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Point
from benchmarks.processes import Memory

DIRECT = "direct"
PINNED = "Pointsman pinned"
ENCODED = "Pointsman routed, every prompt encoded"
TWO_SPEED = "Pointsman routed, encoded when unsure"
TEXT = "Pointsman routed, never encoded"
CACHED = "Pointsman routed, embedding cached"
RIVAL = "LiteLLM pinned"
TARGET_PACE_MS = 2
"""The pace of chunks that the target is held against: each still comes alone (16 streams are 8,000
chunks/s), and the worker has enough to do that waking it does not outweigh what it does."""


@dataclass(frozen=True)
class Figures:
    """Whole answers of one subject at one concurrency; medians of the rounds."""

    subject: str
    concurrency: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float | None
    added_p99_ms: float | None
    requests_per_cpu_second: float | None
    cpu_ms_per_request: float | None
    spread_percent: float | None
    """How far the rounds' CPU per request lie apart: (highest - lowest) / median."""
    encoded_share: float | None = None
    """Of the prompts that were predicted, how many the encoder ran for."""


@dataclass(frozen=True)
class StreamFigures:
    """Streams of one subject, a chunk every `pace_ms`; 0 is as fast as they go, in clumps."""

    subject: str
    pace_ms: int
    first_chunk_added_ms_1: float | None
    first_chunk_added_ms_16: float | None
    cpu_us_per_chunk: float | None
    cpu_ms_per_stream: float | None


@dataclass(frozen=True)
class Footprint:
    """What a gateway takes of the machine."""

    gateway: str
    start_seconds: float
    idle: Memory
    after: Memory


@dataclass(frozen=True)
class Verdict:
    """One target of the project beside what was measured; `met` is None if it was not."""

    target: str
    measured: str
    met: bool | None


def figures(points: Sequence[Point]) -> list[Figures]:
    """One row for each subject and concurrency, in the order in which they were measured."""
    keys = dict.fromkeys((p.concurrency, p.subject) for p in points)
    return [
        _figures(
            [p for p in points if (p.concurrency, p.subject) == (concurrency, subject)],
            {p.round: p for p in points if (p.concurrency, p.subject) == (concurrency, DIRECT)},
        )
        for concurrency, subject in keys
    ]


def _figures(points: Sequence[Point], direct: dict[int, Point]) -> Figures:
    first = points[0]
    costs = [p.cpu_seconds / p.requests for p in points if p.cpu_seconds is not None]
    cost = median(costs) if costs else None
    shares = [p.encoded_share for p in points if p.encoded_share is not None]
    measured_both = first.subject != DIRECT and direct
    return Figures(
        subject=first.subject,
        concurrency=first.concurrency,
        requests_per_second=median(p.requests / p.seconds for p in points),
        p50_ms=median(p.p50_ms for p in points),
        p99_ms=median(p.p99_ms for p in points),
        added_p50_ms=median(p.p50_ms - direct[p.round].p50_ms for p in points)
        if measured_both
        else None,
        added_p99_ms=median(p.p99_ms - direct[p.round].p99_ms for p in points)
        if measured_both
        else None,
        requests_per_cpu_second=1 / cost if cost else None,
        cpu_ms_per_request=cost * 1e3 if cost else None,
        spread_percent=(max(costs) - min(costs)) / cost * 100 if cost else None,
        encoded_share=median(shares) if shares else None,
    )


def stream_figures(points: Sequence[Point], *, pace_ms: int) -> list[StreamFigures]:
    """CPU per chunk is the slope between two stream lengths, so what a stream costs is left out."""
    mine = [p for p in points if p.model.endswith(f"x{pace_ms}")]
    subjects = dict.fromkeys(p.subject for p in mine)
    rows = []
    for subject in subjects:
        of_subject = [p for p in mine if p.subject == subject]
        slopes, bases = _slopes([p for p in of_subject if p.cpu_seconds is not None])
        rows.append(
            StreamFigures(
                subject=subject,
                pace_ms=pace_ms,
                first_chunk_added_ms_1=_first_chunk_added(mine, subject, 1),
                first_chunk_added_ms_16=_first_chunk_added(mine, subject, 16),
                cpu_us_per_chunk=median(slopes) * 1e6 if slopes else None,
                cpu_ms_per_stream=median(bases) * 1e3 if bases else None,
            )
        )
    return rows


def _slopes(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """For each round: seconds of CPU per chunk, and per stream without its chunks."""
    slopes, bases = [], []
    for round_ in dict.fromkeys(p.round for p in points):
        lengths = sorted(
            (p.chunks / p.requests, (p.cpu_seconds or 0.0) / p.requests)
            for p in points
            if p.round == round_ and p.concurrency > 1
        )
        if len(lengths) < 2:
            continue
        (short, short_cost), (long, long_cost) = lengths[0], lengths[-1]
        slope = (long_cost - short_cost) / (long - short)
        slopes.append(slope)
        bases.append(short_cost - slope * short)
    return slopes, bases


def _first_chunk_added(points: Iterable[Point], subject: str, concurrency: int) -> float | None:
    """Median over rounds and lengths of a subject's median less that of direct."""
    if subject == DIRECT:
        return None
    at = [p for p in points if p.concurrency == concurrency and p.first_chunk_p50_ms is not None]
    direct = {(p.round, p.model): p.first_chunk_p50_ms for p in at if p.subject == DIRECT}
    added = [
        p.first_chunk_p50_ms - base
        for p in at
        if p.subject == subject
        and p.first_chunk_p50_ms is not None
        and (base := direct.get((p.round, p.model))) is not None
    ]
    return median(added) if added else None


def verdicts(
    rows: Sequence[Figures], streams: Sequence[StreamFigures], footprints: Sequence[Footprint]
) -> list[Verdict]:
    """The project's targets, each with what this run says of it."""

    def row(subject: str, concurrency: int) -> Figures | None:
        found = (r for r in rows if (r.subject, r.concurrency) == (subject, concurrency))
        return next(found, None)

    def ratio(subject: str, beside: str = RIVAL) -> float | None:
        mine, rival = row(subject, 16), row(beside, 16)
        if not mine or not rival:
            return None
        if not mine.requests_per_cpu_second or not rival.requests_per_cpu_second:
            return None
        return mine.requests_per_cpu_second / rival.requests_per_cpu_second

    def added(subject: str) -> float | None:
        mine = row(subject, 1)
        return mine.added_p50_ms if mine else None

    paced = (s for s in streams if (s.subject, s.pace_ms) == (PINNED, TARGET_PACE_MS))
    chunk = next((s.cpu_us_per_chunk for s in paced), None)
    own = next((f for f in footprints if f.gateway == "Pointsman"), None)
    per_cpu = "LiteLLM's requests per CPU-second, 16 clients"
    return [
        _at_least(f"pinned: at least 30 times {per_cpu}", ratio(PINNED), 30),
        _at_most("pinned: at most 0.6 ms added at p50, one client", added(PINNED), 0.6, "ms"),
        _at_most("streamed: at most 20 us of CPU a chunk, 16 clients", chunk, 20, "us"),
        _at_least(f"every prompt encoded: at least 1.8 times {per_cpu}", ratio(ENCODED), 1.8),
        _at_most("every prompt encoded: at most 8 ms added, one client", added(ENCODED), 8, "ms"),
        _at_least(
            "encoded when unsure: at least 4 times the requests per CPU-second of every prompt "
            "encoded, 16 clients",
            ratio(TWO_SPEED, ENCODED),
            4,
        ),
        _at_least(f"embedding cached: at least 25 times {per_cpu}", ratio(CACHED), 25),
        _at_most(
            "idle memory (RSS): under 250 MB, default router loaded",
            own.idle.rss_mb if own else None,
            250,
            "MB",
        ),
        _at_most("start to ready: within 2 s", own.start_seconds if own else None, 2, "s"),
    ]


def _at_least(target: str, value: float | None, least: float) -> Verdict:
    return _verdict(target, value, "times", lambda measured: measured >= least)


def _at_most(target: str, value: float | None, most: float, unit: str) -> Verdict:
    return _verdict(target, value, unit, lambda measured: measured <= most)


def _verdict(
    target: str, value: float | None, unit: str, holds: Callable[[float], bool]
) -> Verdict:
    if value is None:
        return Verdict(target, "not measured", None)
    return Verdict(target, f"{value:.3g} {unit}", holds(value))
