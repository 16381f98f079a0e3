"""How well a ranking of prompts by predicted gain spends calls to the strong model.

Two forms: exact (every prefix of the ranking, ties in expectation over their random orders) and
RouteLLM's (thresholds at quantiles, straight lines between), because published figures have the
second.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        """Performance gap recovered (PGR) at each point. Undefined, nan, where both models are
        equally good.
        """
        gap = self.strong - self.weak
        if gap == 0.0:
            return np.full_like(self.quality, np.nan)
        return (self.quality - self.weak) / gap

    def apgr(self) -> float:
        """Area under PGR over the strong share: .5 is random, above 1 beats the strong model alone
        on average.
        """
        return float(np.trapezoid(self.recovered(), self.share))

    def cpt(self, level: float) -> float:
        """Call-performance threshold: the least strong share that recovers `level` of the gap."""
        recovered = self.recovered()
        reached = np.flatnonzero(recovered >= level)
        if not len(reached):
            return float("nan")
        at = int(reached[0])
        if at == 0:
            return float(self.share[0])
        step = recovered[at] - recovered[at - 1]
        part = (level - recovered[at - 1]) / step
        return float(self.share[at - 1] + part * (self.share[at] - self.share[at - 1]))


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
    """RouteLLM's harness: thresholds at `points` quantiles of the score, plus all-weak and
    all-strong.
    """
    thresholds = np.unique(np.quantile(gain, np.linspace(0.0, 1.0, points + 1)))
    share, quality = [0.0], [float(weak.mean())]
    for threshold in thresholds[::-1]:
        chosen = gain >= threshold
        share.append(float(chosen.mean()))
        quality.append(float(np.where(chosen, strong, weak).mean()))
    return Curve(np.array(share), np.array(quality))


def task_mean_gain(train_tasks: Sequence[str], train_gain: Array, tasks: Sequence[str]) -> Array:
    """What knowing only the task's name would predict: its mean gain in training, or the overall
    mean.
    """
    overall = float(np.nanmean(train_gain))
    sums: dict[str, list[float]] = {}
    for task, gain in zip(train_tasks, train_gain, strict=True):
        if not np.isnan(gain):
            sums.setdefault(task, []).append(float(gain))
    means = {task: float(np.mean(gains)) for task, gains in sums.items()}
    return np.array([means.get(task, overall) for task in tasks])


def bootstrap_interval(
    gain: Array, weak: Array, strong: Array, *, seed: int, repeats: int = 500, level: float = 0.9
) -> tuple[float, float]:
    """Item-level bootstrap interval of the exact APGR."""
    rng = np.random.default_rng(seed)
    n = len(gain)
    values = []
    for _ in range(repeats):
        rows = rng.integers(0, n, n)
        values.append(exact_curve(gain[rows], weak[rows], strong[rows]).apgr())
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
