"""What an assessment found, and its form in JSON: stable keys, null for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.metrics import Curve
from app.lab.reliability import Bin
from app.lab.trial import Trial

Array = NDArray[np.float64]

ROUTER, RANDOM, ZERO, ORACLE = "router", "random", "zero router", "oracle"
KEEP = 0.95
"""What the objective `quality` keeps where RouterArena's score is taken: its default in a route."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, nan where it is not defined, and its bootstrap interval where there is one."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Method:
    """One method's figures. `money` is of the pool; of the pair there are `pair_money`, by
    thresholds of the gain, and `tradeoff_money`, by lambda. `ahead` is how far the router is ahead
    of it, by figure: difference and interval, on the same resamples.
    """

    name: str
    ranking: Mapping[str, Figure] = field(default_factory=dict)
    money: Mapping[str, Figure] = field(default_factory=dict)
    pair_money: Mapping[str, Figure] = field(default_factory=dict)
    tradeoff_money: Mapping[str, Figure] = field(default_factory=dict)
    ahead: Mapping[str, Figure] = field(default_factory=dict)
    curve: Curve | None = None
    points: tuple[Array, Array] | None = None
    """Mean cost in dollars and mean quality over the pool, cheapest setting first."""
    draws: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """Figures that have intervals on all prompts, first, and on each resample: the same resamples
    for every method. Those of `pair_money` and `tradeoff_money` begin with `pair_` and
    `pair_tradeoff_`.
    """

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **_flat(self.ranking),
            **_flat(self.money),
            "pair": _flat(self.pair_money),
            "pair_tradeoff": _flat(self.tradeoff_money),
            "router_ahead": {name: _triple(figure) for name, figure in self.ahead.items()},
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """What a fixed choice for each prompt scores and costs; nan where unknown. `ahead`, of a single
    model, is by how much the router's quality is higher at the model's mean cost.
    """

    name: str
    quality: float
    usd_per_1k: float
    arena: float = float("nan")
    selection: float = float("nan")
    cost_ratio: float = float("nan")
    accuracy_ratio: float = float("nan")
    ahead: Figure | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "quality": self.quality,
            "cost_usd_per_1k": _known(self.usd_per_1k),
            "arena_score": _known(self.arena),
            "optimal_selection": _known(self.selection),
            "optimal_cost_ratio": _known(self.cost_ratio),
            "optimal_accuracy_ratio": _known(self.accuracy_ratio),
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the router's predictions of one model compare with its scores."""

    model: str
    ece: float
    brier: float
    auroc: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "ece": self.ece,
            "brier": self.brier,
            "auroc": _known(self.auroc),
        }


@dataclass(frozen=True)
class Assessment:
    """All figures of one trial. `extra` are further parts of the JSON, by key."""

    trial: Trial
    methods: tuple[Method, ...]
    singles: tuple[Choice, ...]
    arena: tuple[Choice, ...]
    calibration: tuple[Calibration, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def method(self, name: str) -> Method:
        return next(method for method in self.methods if method.name == name)

    def as_dict(self) -> dict[str, Any]:
        trial = self.trial
        strong, weak = self.singles[trial.strong], self.singles[trial.weak]
        return {
            "source": trial.source,
            "rows": len(trial),
            "left_out": dict(trial.left_out),
            "models_left_out": dict(trial.models_left_out),
            "models": list(trial.models),
            "strong": strong.name,
            "weak": weak.name,
            "quality": {
                "strong": strong.quality,
                "weak": weak.quality,
                "best_of_pair": float(np.maximum(trial.strong_scores, trial.weak_scores).mean()),
                "best_of_pool": float(trial.scores.max(axis=1).mean()),
            },
            "cost_usd_per_1k": {
                "strong": _known(strong.usd_per_1k),
                "weak": _known(weak.usd_per_1k),
            },
            "methods": [method.as_dict() for method in self.methods],
            "singles": [
                {
                    "model": one.name,
                    "quality_kept": _known(_ratio(one.quality, strong.quality)),
                    "saving": _known(1 - _ratio(one.usd_per_1k, strong.usd_per_1k)),
                    **one.as_dict(),
                    "router_ahead_at_its_cost": None if one.ahead is None else _triple(one.ahead),
                }
                for one in self.singles
            ],
            "arena": {
                "objective": {"kind": "quality", "keep": KEEP},
                "methods": [{"name": each.name, **each.as_dict()} for each in self.arena],
            },
            "calibration": [each.as_dict() for each in self.calibration],
            **self.extra,
        }


def _flat(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures by name, with `<name>_interval` beside those that have one."""
    told: dict[str, Any] = {}
    for name, figure in figures.items():
        told[name] = _known(figure.value)
        if figure.interval is not None:
            told[f"{name}_interval"] = list(figure.interval)
    return told


def _known(value: float) -> float | None:
    """Unknown is null, never 0."""
    return None if np.isnan(value) else float(value)


def _triple(figure: Figure) -> list[float | None]:
    """Value, low and high."""
    return [_known(figure.value), *(figure.interval or (None, None))]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
