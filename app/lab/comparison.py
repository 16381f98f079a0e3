"""What a comparison found: each figure as its mean over seeds, with how far seeds differ and a
paired interval over prompts.

A seed changes folds and training, a resample changes prompts. The interval is that of the mean over
seeds: it is taken for each resample first, the same resamples for every seed and method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.assessment import assess, calibrations
from app.lab.baselines import LENGTH, TASK_MEAN
from app.lab.figures import ORACLE, RANDOM, ZERO, Assessment, Method
from app.lab.metrics import exact_curve
from app.lab.resampling import Resamples, interval, resampled_apgr_within
from app.lab.speeds import two_speed
from app.lab.trial import Predicted, Trial

Array = NDArray[np.float64]

METHODS = (LENGTH, TASK_MEAN, RANDOM, ZERO, ORACLE)
"""What the kinds stand beside, in the order they are shown."""
WITHIN = "apgr_within_folds"
RESAMPLING_SEED = 0
"""The same for all seeds, so that figures of a resample can be averaged over them."""


@dataclass(frozen=True, slots=True)
class Averaged:
    """A figure's mean over seeds, nan where some seed has none; `interval` where it has one."""

    value: float
    interval: tuple[float, float] | None = None
    by_seed: tuple[float, ...] = ()

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; nan of one seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else float("nan")

    def as_dict(self) -> dict[str, Any]:
        return {
            "value": _known(self.value),
            "interval": None if self.interval is None else list(self.interval),
            "spread": _known(self.spread),
            "by_seed": [_known(value) for value in self.by_seed],
        }


@dataclass(frozen=True)
class Round:
    """One seed's predictions of one source, each from a router that had not seen the prompt's fold.

    The trial has this seed's expected costs; `folds` (n,) says where a prompt was left out.
    `by_words` are predictions of the kinds that read text; `microseconds` is how long a prompt's
    prediction took, by kind, and `fewest_labels` how many rows of the source the least of the
    routers learned from.
    """

    trial: Trial
    folds: NDArray[np.intp]
    predicted: Mapping[str, Predicted]
    by_words: Mapping[str, Predicted]
    microseconds: Mapping[str, float]
    fewest_labels: int


@dataclass(frozen=True)
class Contender:
    """One method over all seeds. `against` are paired differences, by method and figure; positive
    where this one's figure is higher. Calibration is by model. What only kinds have is empty else.
    """

    name: str
    figures: Mapping[str, Averaged]
    against: Mapping[str, Mapping[str, Averaged]] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Averaged]] = field(default_factory=dict)
    microseconds: float | None = None
    speeds: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "figures": _told(self.figures),
            "against": {name: _told(figures) for name, figures in self.against.items()},
            "calibration": [
                {"model": model, **_told(figures)} for model, figures in self.calibration.items()
            ],
            "microseconds_per_prompt": self.microseconds,
            "two_speed": self.speeds,
        }


@dataclass(frozen=True)
class SourceComparison:
    """All methods on one source, kinds first; `assessments` are those of the seeds."""

    trial: Trial
    contenders: tuple[Contender, ...]
    assessments: tuple[Assessment, ...]
    fewest_labels: int

    def contender(self, name: str) -> Contender:
        return next(each for each in self.contenders if each.name == name)

    def as_dict(self) -> dict[str, Any]:
        told = self.assessments[0].as_dict()
        kept = ("source", "rows", "left_out", "models_left_out", "models", "strong", "weak")
        singles = ("model", "quality", "quality_kept", "saving", "cost_usd_per_1k", "arena_score")
        return {
            **{key: told[key] for key in (*kept, "quality", "cost_usd_per_1k")},
            "fewest_labels": self.fewest_labels,
            "methods": [each.as_dict() for each in self.contenders],
            "singles": [{key: one[key] for key in singles} for one in told["singles"]],
        }


def judge(
    rounds: Sequence[Round],
    kinds: Sequence[str],
    *,
    repeats: int,
    advance: Callable[[int], None] | None = None,
) -> SourceComparison:
    """Scores one source over all seeds. Differences are against the first of the kinds and against
    the task's mean.
    """
    found = [
        assess(
            each.trial,
            each.predicted,
            seed=RESAMPLING_SEED,
            repeats=repeats,
            advance=advance,
        )
        for each in rounds
    ]
    draws = {
        name: averaged_draws([one.method(name) for one in found]) for name in (*kinds, *METHODS)
    }
    resamples = Resamples(len(rounds[0].trial), repeats, RESAMPLING_SEED)
    for name in rounds[0].predicted:
        draws[name][WITHIN] = np.stack(
            [
                within_folds(r.trial.gain(r.predicted[name]), r.folds, r.trial, resamples)
                for r in rounds
            ]
        )
    contenders = [_kind(name, rounds, draws) for name in kinds]
    contenders += [Contender(name, _figures(draws[name])) for name in METHODS]
    return SourceComparison(
        trial=rounds[0].trial,
        contenders=tuple(
            _compared(each, draws, [name for name in (kinds[0], TASK_MEAN) if name != each.name])
            for each in contenders
        ),
        assessments=tuple(found),
        fewest_labels=min(each.fewest_labels for each in rounds),
    )


def averaged_draws(methods: Sequence[Method]) -> dict[str, Array]:
    """A method's figures, (seeds, 1 + repeats) or without resamples (seeds, 1), by name; of one
    method in each seed. Money of the pair has the prefixes `pair_` and `pair_tradeoff_`.
    """
    found = {
        name: np.array([[method.ranking[name].value] for method in methods])
        for name in methods[0].ranking
    }
    shared = [name for name in methods[0].draws if all(name in m.draws for m in methods)]
    return found | {name: np.stack([method.draws[name] for method in methods]) for name in shared}


def averaged(draws: Array) -> Averaged:
    """Of values (seeds, 1 + repeats), the first of all prompts."""
    mean = draws.mean(axis=0)
    held = None if len(mean) == 1 or np.isnan(mean[0]) else interval(mean[1:])
    return Averaged(float(mean[0]), held, tuple(float(value) for value in draws[:, 0]))


def within_folds(gain: Array, folds: NDArray[np.intp], trial: Trial, resamples: Resamples) -> Array:
    """APGR where each fold is swept by itself, (1 + repeats,): what it is on all prompts, first.

    Routers of two folds differ a little in level, and what is right in a fold lowers the mean of
    all others: so a method that predicts few distinct values loses by having folds thrown together.
    """
    weak, strong = trial.weak_scores, trial.strong_scores
    won = 0.0
    for fold in np.unique(folds):
        rows = folds == fold
        curve = exact_curve(gain[rows], weak[rows], strong[rows])
        won += float(np.trapezoid(curve.quality - curve.weak, curve.share)) * int(rows.sum())
    gap = float((strong - weak).sum())
    drawn = resampled_apgr_within(gain, weak, strong, folds, resamples)
    return np.concatenate(([won / gap if gap > 0 else np.nan], drawn))


def _kind(
    name: str, rounds: Sequence[Round], draws: Mapping[str, Mapping[str, Array]]
) -> Contender:
    speeds = [
        two_speed(r.trial, r.predicted[name], r.by_words[name])
        for r in rounds
        if name in r.by_words
    ]
    return Contender(
        name,
        _figures(draws[name]),
        calibration=_calibration(name, rounds),
        microseconds=float(np.mean([each.microseconds[name] for each in rounds])),
        speeds=_mean_speeds(speeds) if speeds else None,
    )


def _calibration(name: str, rounds: Sequence[Round]) -> dict[str, dict[str, Averaged]]:
    by_seed = [calibrations(each.trial, each.predicted[name]) for each in rounds]
    return {
        model: {
            figure: averaged(np.array([[getattr(found[at], figure)] for found in by_seed]))
            for figure in ("ece", "brier", "auroc")
        }
        for at, model in enumerate(rounds[0].trial.models)
    }


def _compared(
    contender: Contender, draws: Mapping[str, Mapping[str, Array]], others: Sequence[str]
) -> Contender:
    mine = draws[contender.name]
    against = {
        other: {
            figure: averaged(mine[figure] - draws[other][figure])
            for figure in mine
            if figure in draws[other]
        }
        for other in others
    }
    return replace(contender, against=against)


def _figures(draws: Mapping[str, Array]) -> dict[str, Averaged]:
    return {name: averaged(values) for name, values in draws.items()}


def _mean_speeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Two-speed figures over seeds: the same dials, mean figures."""

    def mean(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            key: None if any(one[key] is None for one in each) else _mean(one[key] for one in each)
            for key in each[0]
        }

    dials = zip(*(each["when_unsure"] for each in found), strict=True)
    return {
        "never": mean([each["never"] for each in found]),
        "always": mean([each["always"] for each in found]),
        "when_unsure": [mean(dial) for dial in dials],
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _told(figures: Mapping[str, Averaged]) -> dict[str, Any]:
    return {name: figure.as_dict() for name, figure in figures.items()}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
