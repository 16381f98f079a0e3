"""Shows the results of a run: tables for a terminal, the same tables in Markdown for the docs.

python -m benchmarks.report RESULTS.json [--markdown docs/performance.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.summary import DIRECT, RIVAL

BEGIN = "<!-- benchmarks: begin (written by python -m benchmarks.run --markdown) -->"
END = "<!-- benchmarks: end -->"
_BUSY_PERCENT = 10.0


@dataclass(frozen=True)
class Sheet:
    """A table before it has a medium."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(results: dict[str, Any]) -> list[Sheet]:
    return [
        _targets(results["verdicts"]),
        _answers(results["figures"]),
        _streams(results["streams"]),
        _footprints(results["footprints"]),
    ]


def print_tables(results: dict[str, Any], console: Console) -> None:
    for sheet in sheets(results):
        table = Table(title=sheet.title, title_justify="left", header_style="bold")
        for at, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if at else "left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
    for line in _conditions(results):
        console.print(line, highlight=False)


def markdown(results: dict[str, Any]) -> str:
    parts = []
    for sheet in sheets(results):
        align = ["---", *("---:" for _ in sheet.columns[1:])]
        lines = [sheet.columns, align, *sheet.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"### {sheet.title}\n\n{table}")
    parts.append("\n".join(f"- {line}" for line in _conditions(results)))
    return "\n\n".join(parts)


def fill(page: Path, results: dict[str, Any]) -> None:
    """Replaces what stands between the page's markers. Raises ValueError if it has none."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines\n{BEGIN}\n{END}")
    page.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{after}")


def _targets(verdicts: Sequence[dict[str, Any]]) -> Sheet:
    words = {True: "yes", False: "NO", None: "-"}
    rows = [[v["target"], v["measured"], words[v["met"]]] for v in verdicts]
    return Sheet("Targets", ["target", "measured", "met"], rows)


def _answers(figures: Sequence[dict[str, Any]]) -> Sheet:
    rows = []
    for row in figures:
        beside = {f["subject"]: f for f in figures if f["concurrency"] == row["concurrency"]}
        rival, direct = beside.get(RIVAL), beside.get(DIRECT)
        rows.append(
            [
                row["subject"],
                str(row["concurrency"]),
                f"{row['requests_per_second']:,.0f}",
                _share(row, direct, "requests_per_second"),
                f"{row['p50_ms']:.3g} / {row['p99_ms']:.3g}",
                _pair(row["added_p50_ms"], row["added_p99_ms"]),
                _number(row["cpu_ms_per_request"]),
                _number(row["requests_per_cpu_second"], ",.0f"),
                _times(row, rival, "requests_per_cpu_second"),
                _number(row["spread_percent"], ".0f"),
                _number(row.get("encoded_share"), ".0%"),
            ]
        )
    columns = [
        *("whole answers", "clients", "requests/s", "of direct", "p50 / p99 ms", "added ms"),
        *("CPU ms/request", "requests/CPU-s", "x LiteLLM", "spread %", "encoded"),
    ]
    return Sheet("Whole answers: latency, rate and CPU time of the gateway", columns, rows)


def _streams(streams: Sequence[dict[str, Any]]) -> Sheet:
    rows = []
    for row in streams:
        if row["subject"] == DIRECT:
            continue
        rival = next(
            (s for s in streams if s["subject"] == RIVAL and s["pace_ms"] == row["pace_ms"]), None
        )
        rows.append(
            [
                row["subject"],
                f"every {row['pace_ms']} ms" if row["pace_ms"] else "as fast as it goes",
                _number(row["first_chunk_added_ms_1"]),
                _number(row["first_chunk_added_ms_16"]),
                _number(row["cpu_us_per_chunk"]),
                _times(rival, row, "cpu_us_per_chunk") if rival else "-",
                _number(row["cpu_ms_per_stream"]),
            ]
        )
    columns = [
        *("streams", "a chunk", "first chunk added ms, 1 client", "16 clients"),
        *("CPU us/chunk", "x LiteLLM", "CPU ms/stream, chunks apart"),
    ]
    return Sheet("Streams: time to the first chunk, CPU time of a chunk", columns, rows)


def _footprints(footprints: Sequence[dict[str, Any]]) -> Sheet:
    rows = [
        [
            f["gateway"],
            f"{f['start_seconds']:.2f}",
            f"{f['idle']['rss_mb']:.0f} / {f['idle']['pss_mb']:.0f}",
            f"{f['after']['rss_mb']:.0f} / {f['after']['pss_mb']:.0f}",
        ]
        for f in footprints
    ]
    columns = ["gateway", "start to ready s", "idle RSS / PSS MB", "after the load RSS / PSS MB"]
    return Sheet("Start and memory", columns, rows)


def _conditions(results: dict[str, Any]) -> list[str]:
    on, extent = results["machine"], results["extent"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    packages = ", ".join(f"{name} {version}" for name, version in on["packages"].items())
    lines = [
        f"{on['date']}; {on['cpu']}, {on['cores']} cores, {on['memory_gb']} GB; {on['system']}",
        f"{versions}; Python {on['python']}; {packages}",
        f"{extent['rounds']} interleaved rounds of {extent['seconds']:g} s, medians",
        "one worker each; upstream, load generator and gateways share the machine, over loopback",
    ]
    busy = on["busy_before_percent"]
    if busy > _BUSY_PERCENT:
        lines.append(f"The machine was not calm: {busy:.0f} % busy before anything was started.")
    return lines


def _number(value: float | None, form: str = ".3g") -> str:
    return "-" if value is None else format(value, form)


def _pair(p50: float | None, p99: float | None) -> str:
    return "-" if p50 is None or p99 is None else f"{p50:.3g} / {p99:.3g}"


def _times(mine: dict[str, Any] | None, other: dict[str, Any] | None, key: str) -> str:
    """How many times `other` goes into `mine`."""
    if not mine or not other or not mine[key] or not other[key]:
        return "-"
    return f"{mine[key] / other[key]:.3g}"


def _share(mine: dict[str, Any], direct: dict[str, Any] | None, key: str) -> str:
    return f"{mine[key] / direct[key]:.1%}" if direct and direct[key] else "-"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    asked = parser.parse_args()
    read = orjson.loads(asked.results.read_bytes())
    print_tables(read, Console())
    if asked.markdown:
        fill(asked.markdown, read)
