"""From made-up points to figures, verdicts and pages, each checked by hand."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks import gateways, report
from benchmarks.measure import Point, _encoded_share
from benchmarks.processes import Memory
from benchmarks.prompts import REPEATED_PROMPTS, bodies, unique_prompts
from benchmarks.summary import (
    CACHED,
    DIRECT,
    ENCODED,
    PINNED,
    RIVAL,
    TARGET_PACE_MS,
    TWO_SPEED,
    Footprint,
    figures,
    stream_figures,
    verdicts,
)


def point(subject: str, round_: int, **more: Any) -> Point:
    usual = {
        "concurrency": 16,
        "model": "fast",
        "requests": 1000,
        "seconds": 2.0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "cpu_seconds": None if subject == DIRECT else 0.5,
    }
    return Point(subject=subject, round=round_, **{**usual, **more})


def test_figures_are_medians_and_added_to_direct_of_the_same_round() -> None:
    points = []
    for round_, (direct, pinned) in enumerate([(1.0, 1.5), (5.0, 5.6), (1.0, 1.4)]):
        points.append(point(DIRECT, round_, p50_ms=direct, p99_ms=direct))
        points.append(point(PINNED, round_, p50_ms=pinned, p99_ms=9.0, cpu_seconds=0.1 + round_))
    direct_row, pinned_row = figures(points)
    assert direct_row.added_p50_ms is None
    assert direct_row.requests_per_cpu_second is None
    assert pinned_row.added_p50_ms == pytest.approx(0.5)
    assert pinned_row.added_p99_ms == pytest.approx(8.0)
    assert pinned_row.requests_per_second == 500
    assert pinned_row.cpu_ms_per_request == pytest.approx(1.1)
    assert pinned_row.requests_per_cpu_second == pytest.approx(1000 / 1.1)
    assert pinned_row.spread_percent == pytest.approx(2.0 / 1.1 * 100)
    assert pinned_row.encoded_share is None


def test_the_share_encoded_is_of_all_that_was_predicted_meanwhile() -> None:
    before, after = {"text": 50.0}, {"text": 80.0, "encoded": 8.0, "cached": 2.0}
    assert _encoded_share(before, after) == pytest.approx(0.2)
    assert _encoded_share(after, after) is None
    shares = [point(TWO_SPEED, round_, encoded_share=share) for round_, share in enumerate((0, 1))]
    assert figures(shares)[0].encoded_share == 0.5


def stream(subject: str, chunks: int, cpu: float | None, clients: int, first: float) -> Point:
    return point(
        subject,
        0,
        concurrency=clients,
        model=f"fast-{chunks}x{TARGET_PACE_MS}",
        requests=10,
        chunks=10 * chunks,
        cpu_seconds=cpu,
        first_chunk_p50_ms=first,
    )


def test_what_a_chunk_costs_is_the_slope_between_two_lengths() -> None:
    # 3 ms a stream and 20 us a chunk.
    points = [
        stream(DIRECT, 100, None, 16, 0.5),
        stream(PINNED, 100, 10 * (0.003 + 100 * 20e-6), 16, 2.0),
        stream(DIRECT, 600, None, 16, 0.5),
        stream(PINNED, 600, 10 * (0.003 + 600 * 20e-6), 16, 2.2),
        stream(DIRECT, 3, None, 1, 0.1),
        stream(PINNED, 3, 7.0, 1, 0.4),
    ]
    row = next(
        row for row in stream_figures(points, pace_ms=TARGET_PACE_MS) if row.subject == PINNED
    )
    assert row.cpu_us_per_chunk == pytest.approx(20)
    assert row.cpu_ms_per_stream == pytest.approx(3)
    assert row.first_chunk_added_ms_1 == pytest.approx(0.3)
    assert row.first_chunk_added_ms_16 == pytest.approx(1.6)
    assert stream_figures(points, pace_ms=0) == []


def results(pinned_cpu: float = 0.1) -> dict[str, Any]:
    cpu = {PINNED: pinned_cpu, ENCODED: 2.0, TWO_SPEED: 0.4, CACHED: 0.2, RIVAL: 5.0}
    points = [point(DIRECT, 0), *(point(name, 0, cpu_seconds=cost) for name, cost in cpu.items())]
    points += [point(p.subject, 0, concurrency=1, p50_ms=1.5) for p in points if p.cpu_seconds]
    points.append(point(DIRECT, 0, concurrency=1))
    streams = [
        stream(PINNED, 100, 10 * 100 * 15e-6, 16, 2.0),
        stream(PINNED, 600, 10 * 600 * 15e-6, 16, 2.0),
    ]
    footprints = [Footprint("Pointsman", 1.5, Memory(200, 190), Memory(260, 250))]
    rows, stream_rows = figures(points), stream_figures(streams, pace_ms=TARGET_PACE_MS)
    return {
        "machine": {
            "date": "2026-01-01",
            "cpu": "a CPU",
            "cores": 2,
            "memory_gb": 8.0,
            "system": "a system",
            "python": "3.11",
            "packages": {"uvloop": "1"},
            "busy_before_percent": 50.0,
        },
        "versions": {"Pointsman": "abc"},
        "extent": {"rounds": 1, "seconds": 2.0},
        "figures": [asdict(row) for row in rows],
        "streams": [asdict(row) for row in stream_rows],
        "footprints": [asdict(row) for row in footprints],
        "verdicts": [asdict(v) for v in verdicts(rows, stream_rows, footprints)],
    }


def test_targets_are_met_or_not() -> None:
    assert [v["met"] for v in results()["verdicts"]] == [True] * 9
    slow = results(pinned_cpu=0.2)["verdicts"]
    assert slow[0]["met"] is False
    assert slow[0]["measured"] == "25 times"
    assert [v.met for v in verdicts([], [], [])] == [None] * 9


def test_a_page_is_filled_between_its_markers_and_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.fill(page, results())
    once = page.read_text()
    report.fill(page, results())
    assert page.read_text() == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "| Pointsman pinned | 16 |" in once
    assert "not calm: 50 %" in once
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.fill(page, results())


def test_the_committed_page_has_its_markers() -> None:
    text = (gateways.REPOSITORY / "docs" / "performance.md").read_text()
    assert text.index(report.BEGIN) < text.index(report.END)


def test_prompts_are_unique_or_repeat_as_asked() -> None:
    def texts(kind: Any, seed: int = 1) -> list[bytes]:
        return list(islice(bodies(kind, model="m", stream=False, seed=seed), 500))

    assert len(set(texts("fixed"))) == 1
    assert len(set(texts("repeated"))) == REPEATED_PROMPTS
    assert texts("unique") == texts("unique")
    for kind in ("unique", "exam"):
        assert len(set(texts(kind))) == 500
        assert not set(texts(kind)) & set(texts(kind, seed=2))
    questions = [orjson.loads(body)["messages"][1]["content"] for body in texts("exam")]
    assert 120 < sum(map(len, questions)) / 500 < 260  # about fifty tokens
    request = orjson.loads(texts("unique")[0])
    assert request["messages"][1]["content"] == next(unique_prompts(1))
