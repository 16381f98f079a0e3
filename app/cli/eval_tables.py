"""What `pointsman eval` shows in a terminal: for each source how the router ranks, what it saves,
and whether its predictions hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from app.cli.sheets import (
    WIDTH,
    Sheet,
    ahead,
    dollars,
    interval,
    number,
    percent,
    plain,
    share,
    wide_console,
)
from app.lab.figures import ROUTER, Assessment
from app.lab.frontier import hull_vertices
from app.lab.measuring import Measurement
from app.lab.reliability import BINS

_MOST_MODELS = 12


def show(found: Measurement, written: Sequence[Path]) -> None:
    """Prints the tables, and which files were written."""
    console = wide_console()
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
        console.print(table.render(wide=console.width >= WIDTH))
    if not trial.priced:
        console.print("No figures in money: the file has no costs of these models.")
    _show_speeds(console, source.extra.get("two_speed"))
    _show_flips(console, source.extra.get("robustness"))


def _ranking(source: Assessment) -> Sheet:
    table = Sheet.of(
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
            f"{plain(figures['apgr_routellm'])} {percent(figures['cpt50_routellm'])} "
            f"{percent(figures['cpt80_routellm'])}"
        )
        shares = [percent(figures[f"strong_share_{level}"]) for level in (90, 95, 98)]
        table.add_row(
            _name(method.name),
            plain(figures["apgr"]),
            interval(figures["apgr"]),
            ahead(method.ahead.get("apgr")),
            percent(figures["cpt50"]),
            percent(figures["cpt80"]),
            published,
            " ".join(shares),
        )
    return table


def _money(source: Assessment) -> Sheet:
    many = len(source.trial.models)
    table = Sheet.of(
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
            plain(figures["aiq"]),
            interval(figures["aiq"]),
            ahead(method.ahead.get("aiq")),
            percent(figures["qnc"]),
            percent(figures["saving_90"]),
            percent(figures["saving_95"]),
            interval(figures["saving_95"], "{:.0%}"),
            percent(figures["saving_98"]),
            percent(method.tradeoff_money["saving_95"]),
        )
    return table


def _arena(source: Assessment) -> Sheet:
    table = Sheet.of(
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
            number(each.arena),
            number(each.quality),
            dollars(each.usd_per_1k),
            share(each.selection),
            number(each.cost_ratio),
            number(each.accuracy_ratio),
        )
    return table


def _singles(source: Assessment) -> Sheet:
    """The pair, and the models that no mix of others beats."""
    trial = source.trial
    shown = _notable(source)
    rest = len(trial.models) - len(shown)
    table = Sheet.of(
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
            number(one.quality),
            dollars(one.usd_per_1k),
            share(1 - one.usd_per_1k / strong.usd_per_1k if strong.usd_per_1k else np.nan),
            number(one.arena),
            ahead(one.ahead),
        )
    return table


def _calibration(source: Assessment) -> Sheet:
    table = Sheet.of(
        "P(model is right)", "model", f"ECE, {BINS} equal-width bins", "Brier", "AUROC"
    )
    for at in _notable(source):
        each = source.calibration[at]
        table.add_row(escape(each.model), number(each.ece), number(each.brier), number(each.auroc))
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
    told = ", ".join(f"{each['encoded']:.0%} {number(each['apgr'])}" for each in dials)
    console.print(f"Two speeds, share encoded and APGR: {told}")


def _show_flips(console: Console, flips: Mapping[str, Any] | None) -> None:
    if flips is None:
        return
    told = ", ".join(f"{name} {rate:.1%}" for name, rate in flips["flip_rate"].items())
    console.print(f"Decisions that flip, of {flips['prompts']} prompts: {told}")


def _counts(left_out: Mapping[str, int]) -> str:
    told = [f"{count} {name.replace('_', ' ')}" for name, count in left_out.items() if count]
    return ", ".join(told) or "none"


def _name(name: str) -> str:
    return f"[bold]{name}[/bold]" if name == ROUTER else escape(name)
