"""What `pointsman compare` shows in a terminal: a table a source, a row a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from app.cli.sheets import WIDTH, Sheet, ahead, interval, number, share, wide_console
from app.lab.baselines import TASK_MEAN
from app.lab.comparing import Comparison
from app.lab.comparison import WITHIN, Averaged, Contender, SourceComparison
from app.lab.figures import Figure

_NOTHING = Averaged(float("nan"))
_APGR = ("apgr", WITHIN)


def show(found: Comparison, left_out: Mapping[str, str], written: Sequence[Path]) -> None:
    """Prints the tables, and which files were written."""
    console = wide_console()
    asked = found.settings
    console.print(
        f"Left out and predicted: {found.left_out}. Means over {asked.seeds} seeds; intervals "
        "hold 90 % of the resamples of prompts."
    )
    if asked.labels is not None:
        console.print(f"At most {asked.labels} rows of each scored source were learned from.")
    for source in found.sources:
        _show_source(console, source, asked.kinds)
    _show_times(console, found)
    for name, reason in found.skipped.items():
        console.print(f"[bold]{escape(name)}[/bold] is not scored: {escape(reason)}.")
    for name, reason in left_out.items():
        console.print(f"[bold]{escape(name)}[/bold] is not compared: {escape(reason)}.")
    if written:
        console.print(f"Written: {', '.join(str(path) for path in written)}")


def _show_source(console: Console, source: SourceComparison, kinds: Sequence[str]) -> None:
    trial, (one, *_) = source.trial, source.assessments
    strong, weak = one.singles[trial.strong], one.singles[trial.weak]
    console.print()
    console.rule(
        f"[bold]{escape(trial.source)}[/bold], {len(trial)} prompts", align="left", style="dim"
    )
    console.print(
        f"strong: {escape(strong.name)} ({strong.quality:.3f}), weak: {escape(weak.name)} "
        f"({weak.quality:.3f}), {len(trial.models)} models. Learned from at least "
        f"{source.fewest_labels} of its rows."
    )
    wide = console.width >= WIDTH
    for sheet in (_ranking, _differences, _quality):
        console.print(sheet(source, kinds).render(wide=wide))
    for contender in source.contenders:
        _show_speeds(console, contender)


def _ranking(source: SourceComparison, kinds: Sequence[str]) -> Sheet:
    sheet = Sheet.of(
        "Strong or weak",
        *("method", "APGR", "interval", "over seeds", "within folds", "interval"),
        *("CPT50", "CPT80"),
    )
    for each in _ranked(source):
        apgr, within = each.figures["apgr"], each.figures.get(WITHIN, _NOTHING)
        sheet.add_row(
            _name(each.name, kinds),
            number(apgr.value),
            interval(_figure(apgr)),
            "±" * (apgr.spread >= 0) + number(apgr.spread),
            number(within.value),
            interval(_figure(within)),
            share(each.figures["cpt50"].value),
            share(each.figures["cpt80"].value),
        )
    return sheet


def _differences(source: SourceComparison, kinds: Sequence[str]) -> Sheet:
    sheet = Sheet.of(
        "Difference in APGR, paired",
        *("method", f"to {TASK_MEAN}", "within folds", f"to {kinds[0]}", "within folds"),
    )
    for each in _ranked(source):
        cells = [_against(each, other, f) for other in (TASK_MEAN, kinds[0]) for f in _APGR]
        sheet.add_row(_name(each.name, kinds), *cells)
    return sheet


def _quality(source: SourceComparison, kinds: Sequence[str]) -> Sheet:
    weak = source.trial.models[source.trial.weak]
    priced = source.trial.priced
    sheet = Sheet.of(
        "Money, and P(weak model is right)" if priced else "P(weak model is right); no costs",
        *("method", "pair saves at 95 %", "interval", "AIQ", f"AIQ to {TASK_MEAN}", "QNC"),
        *("ECE", "AUROC"),
    )
    for each in source.contenders:
        held = each.calibration.get(weak, {})
        if not priced and not held:
            continue
        saving = each.figures.get("pair_saving_95", _NOTHING)
        sheet.add_row(
            _name(each.name, kinds),
            share(saving.value),
            interval(_figure(saving), "{:.0%}"),
            number(each.figures.get("aiq", _NOTHING).value),
            _against(each, TASK_MEAN, "aiq"),
            share(each.figures.get("qnc", _NOTHING).value),
            *(number(held.get(name, _NOTHING).value) for name in ("ece", "auroc")),
        )
    return sheet


def _ranked(source: SourceComparison) -> list[Contender]:
    return [each for each in source.contenders if "apgr" in each.figures]


def _show_speeds(console: Console, contender: Contender) -> None:
    speeds = contender.speeds
    if speeds is None:
        return
    dials = [speeds["never"], *speeds["when_unsure"], speeds["always"]]
    told = ", ".join(f"{each['encoded']:.0%} {number(each['apgr'])}" for each in dials)
    console.print(f"{escape(contender.name)} at two speeds, share encoded and APGR: {told}")


def _show_times(console: Console, found: Comparison) -> None:
    console.print()
    for kind, seconds in found.fit_seconds.items():
        each = [source.contender(kind).microseconds for source in found.sources]
        taken = float(np.mean([one for one in each if one is not None]))
        console.print(
            f"{escape(kind)}: trained in {seconds:.1f} s, predicts a prompt in {taken:.0f} µs"
        )


def _figure(figure: Averaged) -> Figure:
    return Figure(figure.value, figure.interval)


def _against(contender: Contender, other: str, figure: str) -> str:
    found = contender.against.get(other, {}).get(figure)
    return "-" if found is None else ahead(_figure(found))


def _name(name: str, kinds: Sequence[str]) -> str:
    return f"[bold]{escape(name)}[/bold]" if name in kinds else escape(name)
