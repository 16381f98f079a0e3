"""What `pointsman eval` shows in a terminal: for each source how the router ranks, what it saves,
and whether its predictions hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.lab.figures import ROUTER, Assessment, Figure
from app.lab.frontier import hull_vertices
from app.lab.measuring import Measurement
from app.lab.reliability import BINS

_WIDTH = 118
_MOST_MODELS = 12
_ONLY_IF_WIDE = frozenset({"interval", "as RouteLLM", "95 % by price", "cost ratio"})
"""What a narrow terminal has no room for; the JSON has it."""


@dataclass
class _Sheet:
    """A table before it is known how wide the terminal is."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        self.rows.append(cells)

    def render(self, *, wide: bool) -> Table:
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        shown = [at for at, each in enumerate(self.headings) if wide or each not in _ONLY_IF_WIDE]
        for at in shown:
            table.add_column(self.headings[at], justify="right" if at else "left", no_wrap=not at)
        for row in self.rows:
            table.add_row(*(row[at] for at in shown))
        return table


def show(found: Measurement, written: Sequence[Path]) -> None:
    """Prints the tables, and which files were written."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(
        f"[bold]{escape(found.router)}[/bold]: left out, because it was trained on them: "
        f"{_counts(found.left_out)}. Intervals hold 90 % of the resamples; seed "
        f"{found.settings.seed}."
    )
    for source in found.sources:
        _show_source(console, source)
    for name, reason in found.skipped.items():
        console.print(f"[bold]{escape(name)}[/bold] is not scored: {escape(reason)}.")
    if written:
        console.print(f"Written: {', '.join(str(path) for path in written)}")


def _show_source(console: Console, source: Assessment) -> None:
    trial = source.trial
    strong, weak = source.singles[trial.strong], source.singles[trial.weak]
    console.print()
    console.rule(
        f"[bold]{escape(trial.source)}[/bold], {len(trial)} prompts", align="left", style="dim"
    )
    console.print(
        f"strong: {escape(strong.name)} ({strong.quality:.3f}), weak: {escape(weak.name)} "
        f"({weak.quality:.3f}). Left out: {_counts(trial.left_out)}."
    )
    tables = [_ranking(source)]
    if trial.priced:
        tables += [_money(source), _arena(source), _singles(source)]
    for table in (*tables, _calibration(source)):
        console.print(table.render(wide=console.width >= _WIDTH))
    if not trial.priced:
        console.print("No figures in money: the file has no costs of these models.")
    _show_speeds(console, source.extra.get("two_speed"))
    _show_flips(console, source.extra.get("robustness"))


def _ranking(source: Assessment) -> _Sheet:
    table = _sheet(
        "Ranking: strong or weak",
        "method",
        "APGR",
        "interval",
        "router ahead",
        "CPT50",
        "CPT80",
        "as RouteLLM",
        "calls for 90 95 98 %",
    )
    for method in source.methods:
        figures = method.ranking
        if not figures:
            continue
        published = (
            f"{_plain(figures['apgr_routellm'])} {_percent(figures['cpt50_routellm'])} "
            f"{_percent(figures['cpt80_routellm'])}"
        )
        shares = [_percent(figures[f"strong_share_{level}"]) for level in (90, 95, 98)]
        table.add_row(
            _name(method.name),
            _plain(figures["apgr"]),
            _interval(figures["apgr"]),
            _ahead(method.ahead.get("apgr")),
            _percent(figures["cpt50"]),
            _percent(figures["cpt80"]),
            published,
            " ".join(shares),
        )
    return table


def _money(source: Assessment) -> _Sheet:
    many = len(source.trial.models)
    table = _sheet(
        (f"Money: {many} models" if many > 2 else "Money: the pair")
        + "; saved at 90, 95, 98 % of the strong one's quality",
        "method",
        "AIQ",
        "interval",
        "router ahead",
        "QNC",
        "90 %",
        "95 %",
        "interval",
        "98 %",
        "95 % by price",
    )
    for method in source.methods:
        figures = method.money
        table.add_row(
            _name(method.name),
            _plain(figures["aiq"]),
            _interval(figures["aiq"]),
            _ahead(method.ahead.get("aiq")),
            _percent(figures["qnc"]),
            _percent(figures["saving_90"]),
            _percent(figures["saving_95"]),
            _interval(figures["saving_95"], "{:.0%}"),
            _percent(figures["saving_98"]),
            _percent(method.tradeoff_money["saving_95"]),
        )
    return table


def _arena(source: Assessment) -> _Sheet:
    table = _sheet(
        "RouterArena, at the objective `quality`",
        "method",
        "score",
        "quality",
        "$ per 1k",
        "optimal selection",
        "cost ratio",
        "accuracy ratio",
    )
    for each in source.arena:
        table.add_row(
            _name(each.name),
            _number(each.arena),
            _number(each.quality),
            _dollars(each.usd_per_1k),
            _share(each.selection),
            _number(each.cost_ratio),
            _number(each.accuracy_ratio),
        )
    return table


def _singles(source: Assessment) -> _Sheet:
    """The pair, and the models that no mix of others beats."""
    trial = source.trial
    shown = _notable(source)
    rest = len(trial.models) - len(shown)
    table = _sheet(
        "Single models" + (f" ({rest} that others beat are in the JSON)" if rest else ""),
        "model",
        "quality",
        "$ per 1k",
        "saving",
        "Arena score",
        "router ahead at its cost",
    )
    strong = source.singles[trial.strong]
    for at in shown:
        one = source.singles[at]
        table.add_row(
            escape(one.name),
            _number(one.quality),
            _dollars(one.usd_per_1k),
            _share(1 - one.usd_per_1k / strong.usd_per_1k if strong.usd_per_1k else np.nan),
            _number(one.arena),
            _ahead(one.ahead),
        )
    return table


def _calibration(source: Assessment) -> _Sheet:
    table = _sheet("P(model is right)", "model", f"ECE, {BINS} equal-width bins", "Brier", "AUROC")
    for at in _notable(source):
        each = source.calibration[at]
        table.add_row(
            escape(each.model), _number(each.ece), _number(each.brier), _number(each.auroc)
        )
    return table


def _notable(source: Assessment) -> list[int]:
    """The pair first, then models of the hull, or where there are no costs the best ones."""
    trial = source.trial
    quality = trial.scores.mean(axis=0)
    if trial.priced:
        others = hull_vertices(trial.costs.mean(axis=0), quality)[::-1]
    else:
        others = np.argsort(-quality)
    wanted = dict.fromkeys((trial.strong, trial.weak, *others.tolist()))
    return list(wanted)[:_MOST_MODELS]


def _show_speeds(console: Console, speeds: Mapping[str, Any] | None) -> None:
    if speeds is None:
        return
    dials = [speeds["never"], *speeds["when_unsure"], speeds["always"]]
    told = ", ".join(f"{each['encoded']:.0%} {_number(each['apgr'])}" for each in dials)
    console.print(f"Two speeds, share encoded and APGR: {told}")


def _show_flips(console: Console, flips: Mapping[str, Any] | None) -> None:
    if flips is None:
        return
    told = ", ".join(f"{name} {rate:.1%}" for name, rate in flips["flip_rate"].items())
    console.print(f"Decisions that flip, of {flips['prompts']} prompts: {told}")


def _sheet(title: str, *headings: str) -> _Sheet:
    return _Sheet(title, headings)


def _counts(left_out: Mapping[str, int]) -> str:
    told = [f"{count} {name.replace('_', ' ')}" for name, count in left_out.items() if count]
    return ", ".join(told) or "none"


def _name(name: str) -> str:
    return f"[bold]{name}[/bold]" if name == ROUTER else escape(name)


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else _bare(f"{value:.3f}")


def _bare(number: str) -> str:
    """Without the nought before the point: tables are wide enough."""
    return number.replace("0.", ".", 1) if number.lstrip("+-").startswith("0.") else number


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1%}"


def _dollars(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _plain(figure: Figure) -> str:
    return _number(figure.value)


def _percent(figure: Figure) -> str:
    return _share(figure.value)


def _interval(figure: Figure, form: str = "{:.3f}") -> str:
    if figure.interval is None:
        return "-"
    low, high = (_bare(form.format(bound)) for bound in figure.interval)
    return f"{low}-{high}"


def _ahead(figure: Figure | None) -> str:
    if figure is None or np.isnan(figure.value):
        return "-"
    told = _bare(f"{figure.value:+.3f}")
    if figure.interval is None:
        return told
    low, high = (_bare(f"{bound:+.3f}") for bound in figure.interval)
    return f"{told} ({low} {high})"
