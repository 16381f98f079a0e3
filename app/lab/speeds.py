"""What two-speed routing gives up: a prompt is encoded only where the prediction from its words is
close to the threshold, and the rest is decided from the words alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.metrics import Curve, exact_curve
from app.lab.trial import Predicted, Trial
from app.routing.margin import SHARE

Array = NDArray[np.float64]

DIALS = (0.05, 0.1, SHARE, 0.3, 0.5)
"""Shares of prompts encoded; that of a route's default among them."""

_STEPS = 101


@dataclass(frozen=True, slots=True)
class Speed:
    """APGR where a share of the prompts is encoded."""

    encoded: float
    apgr: float

    def as_dict(self) -> dict[str, Any]:
        return {"encoded": self.encoded, "apgr": None if np.isnan(self.apgr) else self.apgr}


def two_speed(trial: Trial, full: Predicted, text: Predicted) -> dict[str, Any]:
    """APGR with the words alone, with every prompt encoded, and with a share of them encoded at
    each dial. `text` is predicted without vectors.
    """
    weak, strong = trial.weak_scores, trial.strong_scores
    by_vector, by_words = trial.gain(full), trial.gain(text)
    always = exact_curve(by_vector, weak, strong).apgr()
    dials = [
        Speed(dial, unsure_curve(by_words, by_vector, weak, strong, dial).apgr()) for dial in DIALS
    ]
    return {
        "never": Speed(0.0, exact_curve(by_words, weak, strong).apgr()).as_dict(),
        "always": Speed(1.0, always).as_dict(),
        "when_unsure": [
            {**dial.as_dict(), "lost": None if np.isnan(always) else always - dial.apgr}
            for dial in dials
        ],
    }


def unsure_curve(
    by_words: Array, by_vector: Array, weak: Array, strong: Array, encoded: float
) -> Curve:
    """Mean quality against the strong share where, for each threshold, the share `encoded` of the
    prompts with their gain by words nearest to it is decided by the gain from the vector.

    Thresholds lie at equal steps of share in both gains, so that all-weak and all-strong are
    reached whichever of them decides.
    """
    n = len(by_words)
    count = round(encoded * n)
    levels = np.linspace(0.0, 1.0, _STEPS)
    thresholds = np.unique(
        np.concatenate((np.quantile(by_words, levels), np.quantile(by_vector, levels)))
    )
    points = [(0.0, float(weak.mean())), (1.0, float(strong.mean()))]
    for threshold in thresholds:
        gain = by_words.copy()
        if count:
            # Stable: with equal distances the same prompts are encoded whatever the machine.
            nearest = np.argsort(np.abs(by_words - threshold), kind="stable")[:count]
            gain[nearest] = by_vector[nearest]
        chosen = gain >= threshold
        points.append((float(chosen.mean()), float(np.where(chosen, strong, weak).mean())))
    points.sort(key=lambda point: point[0])
    share, quality = np.array(points).T
    # All-weak and all-strong stand at the ends, whatever else was found there.
    quality[0], quality[-1] = weak.mean(), strong.mean()
    return Curve(share, quality)
