"""How well a ranking of prompts by predicted gain spends calls to the strong model.

Two forms: exact (every prefix of the ranking, ties in expectation over their random orders) and
RouteLLM's (thresholds at quantiles, straight lines between), because published figures have the
second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean quality against the share of calls that go to the strong model; both run from all-weak
    to all-strong.
    """

    share: Array
    quality: Array

    @property
    def weak(self) -> float:
        return float(self.quality[0])

    @property
    def strong(self) -> float:
        return float(self.quality[-1])

    def recovered(self) -> Array:
        """Performance gap recovered (PGR) at each point. Undefined, nan, where the strong model is
        not the better one: there is no gap to recover.
        """
        gap = self.strong - self.weak
        if gap <= 0.0:
            return np.full_like(self.quality, np.nan)
        return (self.quality - self.weak) / gap

    def pgr(self, share: float) -> float:
        """PGR where this share of calls goes to the strong model."""
        return float(np.interp(share, self.share, self.recovered()))

    def apgr(self) -> float:
        """Area under PGR over the strong share: .5 is random, above 1 beats the strong model alone
        on average.
        """
        return float(np.trapezoid(self.recovered(), self.share))

    def cpt(self, level: float) -> float:
        """Call-performance threshold: the least strong share that recovers `level` of the gap."""
        return _first_reach(self.share, self.recovered(), level)

    def cpt_routellm(self, level: float) -> float:
        """The same as RouteLLM's harness reads it: by `interp`, which takes the curve for rising
        even where it is not. Only for comparing with published figures.
        """
        recovered = self.recovered()
        if np.isnan(recovered).any():
            return float("nan")
        return float(np.interp(level, recovered, self.share))

    def share_keeping(self, part: float) -> float:
        """The least strong share at which this part of the strong model's quality is kept."""
        return _first_reach(self.share, self.quality, part * self.strong)


def _first_reach(share: Array, height: Array, level: float) -> float:
    """Where a curve of straight pieces first reaches a level; nan if nowhere."""
    reached = np.flatnonzero(height >= level)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(share[0])
    part = (level - height[at - 1]) / (height[at] - height[at - 1])
    return float(share[at - 1] + part * (share[at] - share[at - 1]))


def exact_curve(gain: Array, weak: Array, strong: Array) -> Curve:
    """Every prefix of the prompts by falling predicted gain. Ties count at the mean of their true
    gains.
    """
    order = np.argsort(-gain, kind="stable")
    true_gain = (strong - weak)[order]
    _, start, size = np.unique(-gain[order], return_index=True, return_counts=True)
    tied = np.repeat(np.add.reduceat(true_gain, start) / size, size)
    n = len(gain)
    quality = weak.mean() + np.concatenate(([0.0], np.cumsum(tied))) / n
    return Curve(np.arange(n + 1) / n, quality)


def routellm_curve(gain: Array, weak: Array, strong: Array, points: int = 10) -> Curve:
    """RouteLLM's harness: thresholds at the edges of `points` quantiles, so `points` + 1 points.

    Strong at or above a threshold, but only above the highest: that one is all-weak.
    """
    thresholds = np.unique(np.quantile(gain, np.linspace(0.0, 1.0, points + 1)))
    share, quality = [0.0], [float(weak.mean())]
    for threshold in thresholds[-2::-1] if len(thresholds) > 1 else thresholds:
        chosen = gain >= threshold
        share.append(float(chosen.mean()))
        quality.append(float(np.where(chosen, strong, weak).mean()))
    return Curve(np.array(share), np.array(quality))
