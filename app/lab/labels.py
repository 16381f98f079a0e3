"""Names beside points of a plot, placed where they hide least: each tries a few places around its
point, and the less important ones are left out where there is no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OFFSETS = ((4, -8), (-4, -8), (4, 8), (-4, 8), (4, -22), (-4, -22), (4, 22), (-4, 22))
"""In points, to the right or the left of the point and below or above it; earlier is better."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name and its place in data. What must be shown is, even over something else."""

    text: str
    place: tuple[float, float]
    must: bool = False


def place_labels(
    axes: Any, labels: Sequence[Label], hidden: NDArray[np.float64], ink: str, paper: str
) -> None:
    """Writes labels in their order of importance. `hidden` (k, 2) are points in data that should
    stay in sight. The axes must have their final limits.
    """
    axes.figure.canvas.draw()
    inside = axes.get_window_extent()
    points = axes.transData.transform(hidden)
    taken: list[Any] = []
    for label in labels:
        tried = []
        for order, offset in enumerate(_OFFSETS):
            written = _write(axes, label, offset, ink, paper)
            box = written.get_window_extent()
            clashes = sum(box.overlaps(other) for other in taken)
            outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1)
            covers = int(
                ((points >= (box.x0, box.y0)) & (points <= (box.x1, box.y1))).all(axis=1).sum()
            )
            tried.append(((clashes + outside, covers, order), written, box))
        (cost, *_), best, box = min(tried, key=lambda each: each[0])
        for _, written, _ in tried:
            if written is not best or (cost and not label.must):
                written.remove()
        if label.must or not cost:
            taken.append(box)


def _write(axes: Any, label: Label, offset: tuple[int, int], ink: str, paper: str) -> Any:
    from matplotlib.patheffects import withStroke

    return axes.annotate(
        label.text,
        label.place,
        xytext=offset,
        textcoords="offset points",
        fontsize=8.5,
        color=ink,
        ha="left" if offset[0] > 0 else "right",
        va="top" if offset[1] < 0 else "bottom",
        zorder=7,
        path_effects=[withStroke(linewidth=2.5, foreground=paper)],
    )
