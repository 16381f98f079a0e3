"""Tables of figures in a terminal: what a narrow one has no room for is left out, and a figure that
is not known is a dash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from app.lab.figures import Figure

WIDTH = 118
_ONLY_IF_WIDE = frozenset({"interval", "as RouteLLM", "95 % by price", "cost ratio"})
"""What a narrow terminal has no room for; the JSON has it."""


def wide_console() -> Console:
    """The terminal, or a page of the full width where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


@dataclass
class Sheet:
    """A table before it is known how wide the terminal is."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, title: str, *headings: str) -> Sheet:
        """An empty table with these headings."""
        return cls(title, headings)

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


def number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else _bare(f"{value:.3f}")


def _bare(written: str) -> str:
    """Without the nought before the point: tables are wide enough."""
    return written.replace("0.", ".", 1) if written.lstrip("+-").startswith("0.") else written


def share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1%}"


def dollars(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def plain(figure: Figure) -> str:
    return number(figure.value)


def percent(figure: Figure) -> str:
    return share(figure.value)


def interval(figure: Figure, form: str = "{:.3f}") -> str:
    if figure.interval is None:
        return "-"
    low, high = (_bare(form.format(bound)) for bound in figure.interval)
    return f"{low}-{high}"


def ahead(figure: Figure | None) -> str:
    if figure is None or np.isnan(figure.value):
        return "-"
    told = _bare(f"{figure.value:+.3f}")
    if figure.interval is None:
        return told
    low, high = (_bare(f"{bound:+.3f}") for bound in figure.interval)
    return f"{told} ({low} {high})"
