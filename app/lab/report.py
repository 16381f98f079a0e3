"""An evaluation as one page that needs nothing else: pictures inside, no script, nothing fetched,
readable by day and night and on a phone. The pictures are written beside it too.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from app.lab.figures import ROUTER, Assessment, Figure
from app.lab.measuring import Measurement
from app.lab.plots import DARK, LIGHT, pictures
from app.lab.reliability import BINS

_ALT = {
    "cost": "Mean quality against mean cost, by method, with the single models",
    "share": "Mean quality against the share of calls to the strong model, by method",
    "reliability": "Predicted probability of being right against the share that was right",
    "robustness": "Share of decisions that each change of wording flips",
}

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2430; --muted: #6b7280;
  --line: #e3e6eb; --mine: #0067a5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e8eaee;
  --muted: #9aa1ac; --line: #2b3038; --mine: #5ab4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3rem 0 .25rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.muted, footer, caption { color: var(--muted); }
.pictures { display: grid; gap: 1.25rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--muted); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.mine td { color: var(--mine); font-weight: 600; }
footer { margin-top: 3rem; font-size: .875rem; }
"""


def write_report(
    file: Path, found: Measurement, manifest: Mapping[str, Any], title: str | None = None
) -> list[Path]:
    """Writes the page and its pictures, and returns their paths. Needs matplotlib."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written, sections = [file], []
    for source in found.sources:
        light, dark = pictures(source, LIGHT), pictures(source, DARK)
        for kind, content in light.items():
            path = file.with_name(f"{file.stem}-{plain_name(source.trial.source)}-{kind}.png")
            path.write_bytes(content)
            written.append(path)
        shown = "".join(picture(light[kind], dark[kind], _ALT[kind]) for kind in light)
        sections.append(_section(source, shown))
    name = title or found.router
    file.write_text(_page(name, found, manifest, sections), encoding="utf-8")
    return written


def _page(
    title: str, found: Measurement, manifest: Mapping[str, Any], sections: Sequence[str]
) -> str:
    skipped = "".join(
        f"<p><b>{escape(name)}</b> is not scored: {escape(reason)}.</p>"
        for name, reason in found.skipped.items()
    )
    encoder = manifest.get("encoder", {})
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: evaluation</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        f"<p>Trained on {manifest.get('rows', 0):,} prompts of {len(manifest.get('models', ()))} "
        f"models, encoder {escape(str(encoder.get('name', 'unknown')))}. Scored on prompts that "
        f"it was not trained on; left out by {escape(found.settings.leave_out)}: "
        f"{escape(_counts(found.left_out))}.</p>"
        f"{''.join(sections)}{skipped}"
        "<footer>Intervals hold 90 % of the resamples of a paired bootstrap over prompts; seed "
        f"{found.settings.seed}. APGR: share of the strong model's advantage that is kept, over "
        "all shares of calls to it; random is .5. AIQ: mean height of the hull over the models' "
        "costs. QNC: share of the strong model's cost that buys its quality. By price: the pair "
        "by the tradeoff of quality and expected cost. Length and task mean are what a prompt's "
        "length, or its task's label, would tell; the oracle knows the scores."
        "</footer></body></html>\n"
    )


def _section(source: Assessment, shown: str) -> str:
    trial = source.trial
    strong, weak = source.singles[trial.strong], source.singles[trial.weak]
    speeds = source.extra.get("two_speed")
    return (
        f"<h2>{escape(trial.source)}</h2>"
        f"<p>{len(trial):,} prompts, {len(trial.models)} models. Strong: {escape(strong.name)} "
        f"({strong.quality:.3f}); weak: {escape(weak.name)} ({weak.quality:.3f}). "
        f'<span class="muted">Left out: {escape(_counts(trial.left_out))}.</span></p>'
        f'<div class="pictures">{shown}</div>'
        f"<h3>Ranking</h3>{_ranking(source)}"
        + (f"<h3>Money</h3>{_money(source)}" if trial.priced else "<p>No costs in the file.</p>")
        + f"<h3>Single models</h3>{_singles(source)}"
        + (f"<h3>Two speeds</h3>{_speeds(speeds)}" if speeds else "")
    )


def picture(light: bytes, dark: bytes, alt: str) -> str:
    """A PNG for each kind of page, inside the page; the reader's colour scheme chooses."""
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_data(dark)}"><img alt="{escape(alt)}" src="{_data(light)}">'
        "</picture></figure>"
    )


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def _ranking(source: Assessment) -> str:
    names = ["apgr", "cpt50", "cpt80", "apgr_routellm", "strong_share_95"]
    head = ["method", "APGR", "90 %", "router ahead", "CPT50", "CPT80", "APGR as RouteLLM"]
    rows = []
    for method in source.methods:
        if not method.ranking:
            continue
        apgr, cpt50, cpt80, published, share = (method.ranking[name] for name in names)
        rows.append(
            [
                method.name,
                _number(apgr.value),
                _interval(apgr),
                _ahead(method.ahead.get("apgr")),
                _share(cpt50.value),
                _share(cpt80.value),
                _number(published.value),
                _share(share.value),
            ]
        )
    return table([*head, "calls for 95 %"], rows)


def _money(source: Assessment) -> str:
    arena = {each.name: each for each in source.arena}
    head = ["method", "AIQ", "90 %", "router ahead", "QNC", "saves at 90 %", "95 %", "98 %"]
    head += ["pair by price: 95 %", "Arena score"]
    rows = []
    for method in source.methods:
        figures = method.money
        score = arena[method.name].arena if method.name in arena else float("nan")
        rows.append(
            [
                method.name,
                _number(figures["aiq"].value),
                _interval(figures["aiq"]),
                _ahead(method.ahead.get("aiq")),
                *(_share(figures[name].value) for name in ("qnc", "saving_90")),
                *(_share(figures[name].value) for name in ("saving_95", "saving_98")),
                _share(method.tradeoff_money["saving_95"].value),
                _number(score),
            ]
        )
    return table(head, rows)


def _singles(source: Assessment) -> str:
    """All of them, best first, with how well the router's predictions of each hold."""
    head = ["model", "quality", "$ per 1,000", "Arena score", "router ahead at its cost"]
    rows = []
    for at in np.argsort([-one.quality for one in source.singles], kind="stable"):
        one, held = source.singles[at], source.calibration[at]
        rows.append(
            [
                one.name,
                _number(one.quality),
                "–" if np.isnan(one.usd_per_1k) else f"{one.usd_per_1k:.4g}",
                _number(one.arena),
                _ahead(one.ahead),
                *(_number(value) for value in (held.ece, held.brier, held.auroc)),
            ]
        )
    return table([*head, f"ECE ({BINS} equal-width bins)", "Brier", "AUROC"], rows)


def _speeds(speeds: Mapping[str, Any]) -> str:
    dials = [speeds["never"], *speeds["when_unsure"], speeds["always"]]
    rows = [[f"{each['encoded']:.0%}", _number(each["apgr"])] for each in dials]
    return table(["encoded", "APGR"], rows)


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], mine: Collection[str] = (ROUTER,)
) -> str:
    """A table that scrolls where it is too wide; rows that begin with `mine` stand out."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        ('<tr class="mine">' if row[0] in mine else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def plain_name(name: str) -> str:
    """A source's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "source"


def _counts(left_out: Mapping[str, int]) -> str:
    told = [f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items() if count]
    return ", ".join(told) or "none"


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"


def _interval(figure: Figure) -> str:
    return "–" if figure.interval is None else "{:.3f} to {:.3f}".format(*figure.interval)


def _ahead(figure: Figure | None) -> str:
    if figure is None or np.isnan(figure.value):
        return "–"
    if figure.interval is None:
        return f"{figure.value:+.3f}"
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(figure.value, *figure.interval)
