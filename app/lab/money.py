"""Figures in money for one method: AIQ, saving, QNC, and how it stands against each single model at
that model's cost. Each on all prompts and on every resample of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.frontier import (
    Settings,
    aiq,
    hull,
    least_cost,
    pair_settings,
    pool_settings,
    single_settings,
)
from app.lab.resampling import Resamples

Array = NDArray[np.float64]

LEVELS = (0.90, 0.95, 0.98)
"""Parts of the strongest model's quality at which savings are told."""


@dataclass(frozen=True)
class Market:
    """What the models of a pool score and cost, on all prompts (row 0) and on each resample.

    `quality` and `cost` are (1 + repeats, m); savings are against column `strong`.
    """

    scores: Array
    costs: Array
    strong: int
    resamples: Resamples
    quality: Array
    cost: Array

    @classmethod
    def of(cls, scores: Array, costs: Array, strong: int, resamples: Resamples) -> Market:
        """A market of these scores and costs (n, m)."""
        return cls(
            scores,
            costs,
            strong,
            resamples,
            quality=np.vstack((scores.mean(axis=0), resamples.means(scores.T))),
            cost=np.vstack((costs.mean(axis=0), resamples.means(costs.T))),
        )

    def settings(self, quality: Array, expected_costs: Array) -> Settings:
        """A method's settings: thresholds of the gain for two models, lambdas for more."""
        if self.scores.shape[1] == 2:
            return self.thresholds(quality)
        return self.tradeoffs(quality, expected_costs)

    def thresholds(self, quality: Array) -> Settings:
        """Of the predicted gain, between the two models of this market."""
        weak = 1 - self.strong
        gain = quality[:, self.strong] - quality[:, weak]
        return pair_settings(gain, self.scores, self.costs, strong=self.strong, weak=weak)

    def tradeoffs(self, quality: Array, expected_costs: Array) -> Settings:
        """Of quality against expected cost, which spares the strong model where it is dear."""
        return pool_settings(quality, expected_costs, self.scores, self.costs)

    def zero(self) -> Settings:
        """The zero router's settings."""
        return single_settings(self.scores, self.costs)

    def figures(self, settings: Settings) -> dict[str, Array]:
        """aiq, qnc and saving_90, _95, _98; each (1 + repeats,), the figure itself first.

        Every method can send all prompts to the cheapest model, so AIQ counts that as a setting of
        it. A saving is nan where the method does not reach that quality at any setting.
        """
        cost, quality = self._resampled(settings)
        strong_cost, strong_quality = self.cost[:, self.strong], self.quality[:, self.strong]
        bounds = self.cost.min(axis=1), self.cost.max(axis=1)
        found = {
            "aiq": np.array(
                [aiq(*each) for each in zip(*self._anchored(cost, quality), *bounds, strict=True)]
            ),
            "qnc": _ratio(least_cost(cost, quality, _nearly(strong_quality)), strong_cost),
        }
        for level in LEVELS:
            spent = least_cost(cost, quality, _nearly(level * strong_quality))
            found[f"saving_{round(100 * level)}"] = 1 - _ratio(spent, strong_cost)
        return found

    def ahead_of_singles(self, settings: Settings) -> Array:
        """Quality of a method less that of each model, at the model's mean cost: (1 + repeats, m).
        A mix of settings counts as a setting.
        """
        rows = zip(*self._anchored(*self._resampled(settings)), self.cost, strict=True)
        return np.stack([np.interp(at, *hull(x, y)) for x, y, at in rows]) - self.quality

    def _resampled(self, settings: Settings) -> tuple[Array, Array]:
        """Mean cost and quality of each setting, (1 + repeats, k)."""
        cost, quality = settings.points()
        return (
            np.vstack((cost, self.resamples.means(settings.cost))),
            np.vstack((quality, self.resamples.means(settings.quality))),
        )

    def _anchored(self, cost: Array, quality: Array) -> tuple[Array, Array]:
        """With the cheapest model as one more setting."""
        cheapest = int(np.argmin(self.cost[0]))
        return (
            np.column_stack((self.cost[:, cheapest], cost)),
            np.column_stack((self.quality[:, cheapest], quality)),
        )


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _nearly(target: Array) -> Array:
    """Sums of a million single-precision scores differ in the seventh digit by their order."""
    return target - 1e-6
