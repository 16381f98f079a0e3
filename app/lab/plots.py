"""Pictures of an assessment, by matplotlib without a display. Each can be drawn for a light and for
a dark page; a method has the same colour in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from app.errors import PointsmanError
from app.lab.figures import ORACLE, RANDOM, ROUTER, ZERO, Assessment, Calibration, Method
from app.lab.frontier import hull_vertices
from app.lab.labels import Label, place_labels

_DPI = 160
_WIDTH = 6.4
_HEIGHTS: Mapping[str, float] = {"reliability": 3.7, "robustness": 2.6}
_HEIGHT = 4.3
_LOG_FROM = 8.0
"""Costs that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a page: `ink` for text, `faint` for lines behind the data."""

    name: str
    paper: str
    ink: str
    muted: str
    faint: str
    methods: Mapping[str, str]


# Okabe and Ito's colours, which the colour-blind can tell apart, lighter on dark paper.
LIGHT = Theme(
    "light",
    "#ffffff",
    "#1f2430",
    "#6b7280",
    "#e3e6eb",
    {
        ROUTER: "#0067a5",
        "task mean": "#008f6b",
        "length": "#c77700",
        ORACLE: "#a8518a",
        ZERO: "#6b7280",
        RANDOM: "#9aa1ac",
    },
)
DARK = Theme(
    "dark",
    "#14171c",
    "#e8eaee",
    "#9aa1ac",
    "#2b3038",
    {
        ROUTER: "#5ab4f0",
        "task mean": "#2fc79d",
        "length": "#f0a637",
        ORACLE: "#dd8fc3",
        ZERO: "#9aa1ac",
        RANDOM: "#737b87",
    },
)
_SPARE = "#8d79c9"
_DASHES: Mapping[str, str] = {ORACLE: "--", ZERO: "-", RANDOM: ":"}


def require_matplotlib() -> None:
    """Raises PointsmanError, naming the extra, where there is no matplotlib."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise PointsmanError(
            "plots need matplotlib: pip install 'pointsman[lab]' (or make setup EXTRAS=dev,lab)"
        ) from error


def pictures(assessment: Assessment, theme: Theme) -> dict[str, bytes]:
    """PNG files by kind: cost, share, reliability and robustness, as far as there is something to
    draw.
    """
    require_matplotlib()
    drawn: dict[str, Callable[[Any], None]] = {}
    if assessment.trial.priced:
        drawn["cost"] = lambda figure: _cost(figure, assessment, theme)
    drawn["share"] = lambda figure: _share(figure, assessment, theme)
    drawn["reliability"] = lambda figure: _reliability(figure, assessment, theme)
    if assessment.extra.get("robustness"):
        drawn["robustness"] = lambda figure: _robustness(figure, assessment, theme)
    return {kind: png(draw, theme, _HEIGHTS.get(kind, _HEIGHT)) for kind, draw in drawn.items()}


def png(draw: Callable[[Any], None], theme: Theme, height: float) -> bytes:
    """What `draw` does with a figure so many inches high, in the colours of the theme."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _style(theme):
        figure = Figure(
            figsize=(_WIDTH, height),
            dpi=_DPI,
            layout="constrained",
            facecolor=theme.paper,
        )
        FigureCanvasAgg(figure)
        draw(figure)
        out = BytesIO()
        # No date and no version inside: the same figures give the same bytes.
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    import matplotlib as mpl

    settings: Any = {
        "font.size": 10.5,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.7,
        "text.color": theme.ink,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
    with mpl.rc_context(settings):
        yield


def _look(name: str, theme: Theme) -> dict[str, Any]:
    return {
        "color": theme.methods.get(name, _SPARE),
        "linestyle": _DASHES.get(name, "-"),
        "linewidth": 2.6 if name == ROUTER else 1.5,
        "zorder": 5 if name == ROUTER else 3,
    }


def _cost(figure: Any, assessment: Assessment, theme: Theme) -> None:
    axes = figure.subplots()
    trial = assessment.trial
    cost = 1000 * trial.costs.mean(axis=0)
    quality = trial.scores.mean(axis=0)
    wide = bool(cost.min() > 0 and cost.max() / cost.min() > _LOG_FROM)
    for method in _order(assessment.methods):
        if method.points is None or (method.name == ZERO and len(trial.models) == 2):
            continue  # The hull of two models is what random does with them.
        x, y = 1000 * method.points[0], method.points[1]
        label = "hull of single models" if method.name == ZERO else method.name
        if method.name in (ZERO, RANDOM):
            x, y = _dense(x, y)
        axes.plot(x, y, label=label, **_look(method.name, theme))
    axes.scatter(
        cost, quality, s=22, color=theme.muted, zorder=6, linewidths=0, label="single models"
    )
    if wide:
        _logarithmic(axes)
    axes.margins(y=0.09)
    axes.set_title("Quality for money", color=theme.ink)
    axes.set_xlabel("mean cost, $ per 1,000 requests" + (" (log)" if wide else ""))
    axes.set_ylabel("mean quality")
    _legend(figure, axes)
    named = dict.fromkeys((trial.strong, trial.weak, *hull_vertices(cost, quality)[::-1].tolist()))
    place_labels(
        axes,
        [
            Label(trial.models[at], (cost[at], quality[at]), at in (trial.strong, trial.weak))
            for at in named
        ],
        np.concatenate((np.column_stack((cost, quality)), _line_of(assessment))),
        theme.ink,
        theme.paper,
    )


def _line_of(assessment: Assessment) -> Any:
    """The router's points in the picture of costs (k, 2)."""
    points = assessment.method(ROUTER).points
    return np.empty((0, 2)) if points is None else np.column_stack((1000 * points[0], points[1]))


def _share(figure: Any, assessment: Assessment, theme: Theme) -> None:
    axes = figure.subplots()
    trial = assessment.trial
    for method in _order(assessment.methods):
        if method.curve is None:
            continue
        curve = method.curve
        axes.plot(100 * curve.share, curve.quality, label=method.name, **_look(method.name, theme))
    axes.margins(x=0.02, y=0.09)
    axes.set_title("Quality for calls to the strong model", color=theme.ink)
    axes.set_xlabel("calls to the strong model, %")
    axes.set_ylabel("mean quality")
    _legend(figure, axes)
    router = assessment.method(ROUTER).curve
    line = [] if router is None else [100 * router.share, router.quality]
    ends = ((trial.weak, 0.0), (trial.strong, 100.0))
    labels = [
        Label(f"{trial.models[at]} {quality:.3f}", (share, quality), must=True)
        for at, share in ends
        for quality in (float(trial.scores[:, at].mean()),)
    ]
    place_labels(axes, labels, np.array(line).T.reshape(-1, 2), theme.ink, theme.paper)


def _reliability(figure: Any, assessment: Assessment, theme: Theme) -> None:
    trial = assessment.trial
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, at in zip(both, (trial.strong, trial.weak), strict=True):
        _reliable(axes, assessment.calibration[at], len(trial), theme)
    both[0].set_ylabel("share right")
    figure.supxlabel(
        "predicted P(right); area of a dot: how often", color=theme.muted, fontsize=10.5
    )


def _reliable(axes: Any, calibration: Calibration, rows: int, theme: Theme) -> None:
    color = theme.methods[ROUTER]
    axes.plot([0, 1], [0, 1], color=theme.muted, linestyle=":", linewidth=1.3)
    predicted = [part.predicted for part in calibration.bins]
    observed = [part.observed for part in calibration.bins]
    size = [12 + 420 * part.count / rows for part in calibration.bins]
    axes.plot(predicted, observed, color=color, linewidth=1.6, zorder=4)
    axes.scatter(predicted, observed, s=size, color=color, alpha=0.85, linewidths=0, zorder=5)
    axes.set_aspect("equal")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_title(calibration.model, color=theme.ink, fontsize=9.5)
    axes.text(
        0.98,
        0.03,
        f"ECE {calibration.ece:.3f}",
        ha="right",
        color=theme.muted,
        fontsize=9.5,
    )


def _robustness(figure: Any, assessment: Assessment, theme: Theme) -> None:
    axes = figure.subplots()
    flips = assessment.extra["robustness"]
    names = list(flips["flip_rate"])[::-1]
    rates = [100 * flips["flip_rate"][name] for name in names]
    axes.barh(names, rates, height=0.62, color=theme.methods[ROUTER])
    for at, rate in enumerate(rates):
        axes.annotate(
            f"{rate:.1f} %",
            (rate, at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=theme.ink,
        )
    axes.set_xlim(0, max(10.0, 1.18 * max(rates)))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("Decisions that a change of wording flips", color=theme.ink)
    axes.set_xlabel(f"% of {flips['prompts']} prompts")


def _order(methods: tuple[Method, ...]) -> list[Method]:
    """The router first in the legend."""
    return sorted(methods, key=lambda method: method.name != ROUTER)


def _dense(x: Any, y: Any) -> tuple[Any, Any]:
    """Straight lines with many points: they are curves on a logarithmic axis."""
    at = np.linspace(0, len(x) - 1, 40 * len(x))
    steps = np.arange(len(x))
    return np.interp(at, steps, x), np.interp(at, steps, y)


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=5 if len(labels) == 5 else 4,
        handlelength=1.8,
    )
