"""What `pointsman demo` shows at its end: where requests went, how long it took, what it saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from app.cli.demo_traffic import Outcome

SIMULATED_NOTE = (
    "The upstreams are simulated: the answers are made up. The routing decisions are real, as is "
    "the arithmetic: simulated token counts at the prices in the configuration."
)
_NO_MODEL = "(not answered)"

Totals = Mapping[tuple[str, str], float]
"""Sums of the money counters, by metric name and by model (empty where a metric has none)."""

_COST = "pointsman_cost_dollars_total"
_BASELINE = "pointsman_baseline_cost_dollars_total"
_SAVED = "pointsman_saved_dollars_total"
_OVERSPENT = "pointsman_overspent_dollars_total"


def read_totals(exposition: str) -> Totals:
    """Money counters of a `/metrics` page; they know streams too, whose headers cannot."""
    sums: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name in (_COST, _BASELINE, _SAVED, _OVERSPENT):
                sums[sample.name, sample.labels.get("model", "")] += sample.value  # type: ignore[assignment]
    return sums


@dataclass(frozen=True, slots=True)
class Line:
    """One model's share."""

    model: str
    requests: int
    mean_latency_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Report:
    """The demo's figures. Money is what `/metrics` counted between its start and its end."""

    lines: list[Line]
    requests: int
    failures: dict[str, int]
    decisions: dict[str, int]
    mean_latency_seconds: float
    cost_usd: float
    baseline_cost_usd: float
    saved_usd: float
    simulated: bool

    @property
    def saved_percent(self) -> float | None:
        return 100 * self.saved_usd / self.baseline_cost_usd if self.baseline_cost_usd else None

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failures": self.failures,
            "decisions": self.decisions,
            "mean_latency_seconds": round(self.mean_latency_seconds, 6),
            "models": [
                {
                    "model": line.model,
                    "requests": line.requests,
                    "mean_latency_seconds": round(line.mean_latency_seconds, 6),
                    "cost_usd": round(line.cost_usd, 9),
                }
                for line in self.lines
            ],
            "cost_usd": round(self.cost_usd, 9),
            "baseline_cost_usd": round(self.baseline_cost_usd, 9),
            "saved_usd": round(self.saved_usd, 9),
            "saved_percent": None if self.saved_percent is None else round(self.saved_percent, 2),
            "simulated": self.simulated,
            "note": SIMULATED_NOTE if self.simulated else None,
        }


def report(outcomes: Sequence[Outcome], before: Totals, after: Totals) -> Report:
    """Add up what came back."""

    def spent(metric: str, model: str | None = None) -> float:
        keys = [key for key in after if key[0] == metric and model in (None, key[1])]
        return sum(after[key] - before.get(key, 0.0) for key in keys)

    by_model: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_model.setdefault(outcome.model or _NO_MODEL, []).append(outcome)
    lines = [
        Line(model, len(group), _mean_seconds(group), spent(_COST, model))
        for model, group in by_model.items()
    ]
    return Report(
        lines=sorted(lines, key=lambda line: (-line.requests, line.model)),
        requests=len(outcomes),
        failures=dict(Counter(outcome.code for outcome in outcomes if outcome.code)),
        decisions=dict(Counter(outcome.decision for outcome in outcomes if outcome.decision)),
        mean_latency_seconds=_mean_seconds(outcomes),
        cost_usd=spent(_COST),
        baseline_cost_usd=spent(_BASELINE),
        saved_usd=spent(_SAVED) - spent(_OVERSPENT),
        simulated=any(outcome.simulated for outcome in outcomes),
    )


def _mean_seconds(outcomes: Sequence[Outcome]) -> float:
    return sum(outcome.seconds for outcome in outcomes) / len(outcomes) if outcomes else 0.0


def show(console: Console, figures: Report) -> None:
    """Print the table and the plain word on what it means."""
    table = Table(title="Where the requests went", show_footer=True)
    table.add_column("Model", "All")
    table.add_column("Requests", str(figures.requests), justify="right")
    table.add_column("Share", "100%", justify="right")
    table.add_column("Mean latency", _milliseconds(figures.mean_latency_seconds), justify="right")
    table.add_column("Cost", _dollars(figures.cost_usd), justify="right")
    for line in figures.lines:
        table.add_row(
            line.model,
            str(line.requests),
            f"{line.requests / figures.requests:.0%}",
            _milliseconds(line.mean_latency_seconds),
            _dollars(line.cost_usd),
        )
    console.print(table)
    percent = figures.saved_percent
    share = "" if percent is None else f" ({percent:.0f}%)"
    console.print(f"All at the baseline model: {_dollars(figures.baseline_cost_usd)}")
    console.print(f"Saved:                     {_dollars(figures.saved_usd)}{share}")
    decided = ", ".join(f"{kind} {count}" for kind, count in sorted(figures.decisions.items()))
    console.print(f"Decided by:                {decided or 'nobody'}")
    for code, count in figures.failures.items():
        console.print(f"Failed:                    {count} x {code}", style="red")
    if figures.simulated:
        console.print(f"\n{SIMULATED_NOTE}", style="yellow")


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _dollars(amount: float) -> str:
    return f"${amount:.6f}"
