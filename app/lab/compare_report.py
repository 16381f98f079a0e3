"""A comparison as one page that needs nothing else, in the manner of an evaluation's: for each
source a chart of all methods and the figures behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from app.lab.baselines import TASK_MEAN
from app.lab.comparing import Comparison
from app.lab.comparison import WITHIN, Averaged, Contender, SourceComparison
from app.lab.figures import ORACLE, RANDOM
from app.lab.plots import DARK, LIGHT, Theme, png
from app.lab.report import STYLE, picture, plain_name, table

_NOTHING = Averaged(float("nan"))
_ROW_HEIGHT, _MARGINS = 0.3, 1.1
"""Of the chart, in inches."""


def write_report(file: Path, found: Comparison) -> list[Path]:
    """Writes the page and its pictures, and returns their paths. Needs matplotlib."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written, sections = [file], []
    for source in found.sources:
        light, dark = (chart(source, found.settings.kinds, theme) for theme in (LIGHT, DARK))
        path = file.with_name(f"{file.stem}-{plain_name(source.trial.source)}-apgr.png")
        path.write_bytes(light)
        written.append(path)
        shown = picture(light, dark, f"APGR of each method on {source.trial.source}")
        sections.append(_section(source, found.settings.kinds, shown))
    file.write_text(_page(found, sections), encoding="utf-8")
    return written


def chart(source: SourceComparison, kinds: Sequence[str], theme: Theme) -> bytes:
    """APGR of each method with its interval, the best at the top; kinds in colour. The oracle is
    left out: it would squeeze all others.
    """
    shown = [each for each in source.contenders if "apgr" in each.figures and each.name != ORACLE]
    shown.sort(key=lambda each: each.figures["apgr"].value)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for at, each in enumerate(shown):
            apgr = each.figures["apgr"]
            color = theme.methods["router"] if each.name in kinds else theme.muted
            if apgr.interval is not None:
                axes.plot(apgr.interval, [at, at], color=color, linewidth=2.2)
            axes.scatter([apgr.value], [at], s=36, color=color, zorder=5, linewidths=0)
        for name in (RANDOM, TASK_MEAN):
            value = source.contender(name).figures["apgr"].value
            axes.axvline(value, color=theme.muted, linestyle=":", linewidth=1.2, zorder=1)
        axes.set_yticks(range(len(shown)), [each.name for each in shown])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.08)
        axes.set_title("Strong or weak", color=theme.ink)
        axes.set_xlabel("APGR, with the middle 90 % of resamples")

    return png(draw, theme, _MARGINS + _ROW_HEIGHT * len(shown))


def _page(found: Comparison, sections: Sequence[str]) -> str:
    asked = found.settings
    skipped = "".join(
        f"<p><b>{escape(name)}</b> is not scored: {escape(reason)}.</p>"
        for name, reason in found.skipped.items()
    )
    labels = (
        ""
        if asked.labels is None
        else f" At most {asked.labels:,} rows of each scored source were learned from."
    )
    times = [
        [kind, f"{seconds:.1f}", f"{_microseconds(found, kind):.0f}"]
        for kind, seconds in found.fit_seconds.items()
    ]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Estimators compared</title><style>{STYLE}</style></head><body>"
        "<h1>Estimators compared</h1>"
        f"<p>Nested cross-validation. Left out and predicted: {escape(found.left_out)}. Means over "
        f"{asked.seeds} seeds.{labels}</p>"
        f"{''.join(sections)}{skipped}"
        f"<h2>Time</h2>{table(['estimator', 'training, s', 'a prompt, µs'], times)}"
        "<footer>Intervals hold 90 % of the resamples of a paired bootstrap over prompts, of the "
        "mean over seeds; what stands after ± is the standard deviation over seeds. APGR: share of "
        "the strong model's advantage that is kept, over all shares of calls to it; random is .5. "
        "Within folds: each fold is swept by itself, so that levels that differ between routers "
        "do not count. Length and task mean are what a prompt's length, or its task's label, would "
        "tell; the oracle knows the scores.</footer></body></html>\n"
    )


def _section(source: SourceComparison, kinds: Sequence[str], shown: str) -> str:
    trial = source.trial
    quality = trial.scores.mean(axis=0)
    named = (f"{escape(trial.models[at])} ({quality[at]:.3f})" for at in (trial.strong, trial.weak))
    return (
        f"<h2>{escape(trial.source)}</h2>"
        f"<p>{len(trial):,} prompts, {len(trial.models)} models. Strong and weak: "
        f"{'; '.join(named)}. Learned from at least {source.fewest_labels:,} of its rows.</p>"
        f'<div class="pictures">{shown}</div>{_table(source, kinds)}'
    )


def _table(source: SourceComparison, kinds: Sequence[str]) -> str:
    weak = source.trial.models[source.trial.weak]
    head = ["method", "APGR", "90 %", "over seeds", "within folds", "to task mean", "within folds"]
    head += [f"to {kinds[0]}", "CPT50", "CPT80", "pair saves at 95 %", "AIQ", "QNC"]
    rows = []
    for each in source.contenders:
        figures = each.figures
        apgr = figures.get("apgr", _NOTHING)
        held = each.calibration.get(weak, {})
        rows.append(
            [
                each.name,
                _number(apgr.value),
                _interval(apgr),
                "±" * (apgr.spread >= 0) + _number(apgr.spread),
                _number(figures.get(WITHIN, _NOTHING).value),
                _against(each, TASK_MEAN, "apgr"),
                _against(each, TASK_MEAN, WITHIN),
                _against(each, kinds[0], "apgr"),
                *(
                    _share(figures.get(name, _NOTHING).value)
                    for name in ("cpt50", "cpt80", "pair_saving_95")
                ),
                _number(figures.get("aiq", _NOTHING).value),
                _share(figures.get("qnc", _NOTHING).value),
                *(_number(held.get(name, _NOTHING).value) for name in ("ece", "auroc")),
            ]
        )
    return table([*head, "ECE, weak", "AUROC, weak"], rows, mine=kinds)


def _microseconds(found: Comparison, kind: str) -> float:
    each = [source.contender(kind).microseconds for source in found.sources]
    return float(np.mean([one for one in each if one is not None]))


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"


def _interval(figure: Averaged) -> str:
    return "–" if figure.interval is None else "{:.3f} to {:.3f}".format(*figure.interval)


def _against(contender: Contender, other: str, figure: str) -> str:
    found = contender.against.get(other, {}).get(figure)
    if found is None or np.isnan(found.value):
        return "–"
    if found.interval is None:
        return f"{found.value:+.3f}"
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(found.value, *found.interval)
