"""Scores methods on a trial: how each ranks a pair, what it saves on a pool, and whether its
predictions can be taken at their word, beside random, single models, zero router and oracle.

Pure: scores and predictions in, figures out. It knows of no router and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.arena import arena_score, choose_within, optimality
from app.lab.figures import (
    KEEP,
    ORACLE,
    RANDOM,
    ZERO,
    Assessment,
    Calibration,
    Choice,
    Figure,
    Method,
)
from app.lab.frontier import Settings
from app.lab.metrics import Curve, exact_curve, routellm_curve
from app.lab.money import LEVELS, Market
from app.lab.reliability import auroc, brier, ece, reliability
from app.lab.resampling import Resamples, interval, resampled_apgr
from app.lab.trial import Predicted, Trial

Array = NDArray[np.float64]

REPEATS = 500
HARNESS_POINTS = 11


def assess(
    trial: Trial,
    predicted: Mapping[str, Predicted],
    *,
    seed: int,
    repeats: int = REPEATS,
    advance: Callable[[int], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Assessment:
    """Figures of each method in `predicted`, the first of which is the one the others are compared
    with and whose calibration is told. Random, zero router and oracle are added.

    `advance` is called with 1 for each method done.
    """
    reference = next(iter(predicted))
    resamples = Resamples(len(trial), repeats, seed)
    markets = _markets(trial, resamples)
    methods: list[Method] = []
    names = [reference, RANDOM, ZERO, *(n for n in predicted if n != reference), ORACLE]
    for name in names:
        method = _method(name, trial, predicted, resamples, markets)
        methods.append(_compared(method, methods[0].draws) if methods else method)
        if advance is not None:
            advance(1)
    return Assessment(
        trial=trial,
        methods=tuple(methods),
        singles=_singles(trial, predicted[reference], markets),
        arena=tuple(_arena(trial, predicted, reference)),
        calibration=tuple(calibrations(trial, predicted[reference])),
        extra=extra or {},
    )


def _markets(trial: Trial, resamples: Resamples) -> tuple[Market, Market] | None:
    """Of the pool, and of the pair alone; None without costs."""
    if not trial.priced:
        return None
    pair = [trial.strong, trial.weak]
    pool = Market.of(trial.scores, trial.costs, trial.strong, resamples)
    if len(trial.models) == 2:
        return pool, pool
    return pool, Market.of(trial.scores[:, pair], trial.costs[:, pair], 0, resamples)


def _method(
    name: str,
    trial: Trial,
    predicted: Mapping[str, Predicted],
    resamples: Resamples,
    markets: tuple[Market, Market] | None,
) -> Method:
    quality, expected = _prediction(name, trial, predicted)
    values: dict[str, Array] = {}
    curve: Curve | None = None
    ranking: dict[str, Figure] = {}
    if name != ZERO:
        gain = quality[:, trial.strong] - quality[:, trial.weak]
        curve, ranking = _ranking(gain, trial)
        drawn = resampled_apgr(gain, trial.weak_scores, trial.strong_scores, resamples)
        values["apgr"] = np.concatenate(([ranking["apgr"].value], drawn))
        ranking["apgr"] = _figure(values["apgr"])
    if markets is None:
        return Method(name, ranking, curve=curve, draws=values)
    settings = _settings(name, trial, quality, expected, markets)
    pool, both = markets
    found = {"": pool.figures(settings[0])}
    found["pair_"] = found[""] if both is pool else both.figures(settings[1])
    found["pair_tradeoff_"] = both.figures(settings[2])
    money, of_pair, of_tradeoff = (
        {key: _figure(each) for key, each in view.items()} for view in found.values()
    )
    values |= {prefix + key: each for prefix, view in found.items() for key, each in view.items()}
    points = settings[0].points()
    return Method(
        name, ranking, money, of_pair, of_tradeoff, curve=curve, points=points, draws=values
    )


def _settings(
    name: str,
    trial: Trial,
    quality: Array,
    expected: Array,
    markets: tuple[Market, Market],
) -> tuple[Settings, Settings, Settings]:
    """A method's settings for the pool, for the pair by thresholds, and for the pair by lambda."""
    pool, both = markets
    if name == ZERO:
        zero = both.zero()
        return zero if pool is both else pool.zero(), zero, zero
    pair = [trial.strong, trial.weak] if both is not pool else [0, 1]
    thresholds = both.thresholds(quality[:, pair])
    if name == RANDOM:
        # Of a pool, too, random knows two models only: strong and weak.
        return thresholds, thresholds, thresholds
    by_price = both.tradeoffs(quality[:, pair], expected[:, pair])
    whole = thresholds if pool is both else pool.tradeoffs(quality, expected)
    return whole, thresholds, by_price


def _prediction(name: str, trial: Trial, predicted: Mapping[str, Predicted]) -> tuple[Array, Array]:
    """Quality and costs (n, m) that a method goes by. Random and the zero router see none."""
    if name == ORACLE:
        return trial.scores, trial.costs
    if name in predicted:
        return predicted[name].quality, trial.expected_costs
    return np.zeros_like(trial.scores), trial.expected_costs


def _ranking(gain: Array, trial: Trial) -> tuple[Curve, dict[str, Figure]]:
    weak, strong = trial.weak_scores, trial.strong_scores
    exact, published = exact_curve(gain, weak, strong), routellm_curve(gain, weak, strong)
    found = {
        "apgr": exact.apgr(),
        "cpt50": exact.cpt(0.5),
        "cpt80": exact.cpt(0.8),
        "pgr25": exact.pgr(0.25),
        "pgr50": exact.pgr(0.5),
        "pgr75": exact.pgr(0.75),
        "apgr_routellm": published.apgr(),
        "cpt50_routellm": published.cpt_routellm(0.5),
        "cpt80_routellm": published.cpt_routellm(0.8),
        "pgr50_routellm": published.pgr(0.5),
    }
    if len(published.share) not in (2, HARNESS_POINTS):
        # Its harness stops where ties make quantiles fall together; one tie of all is just random.
        found |= {name: float("nan") for name in found if name.endswith("_routellm")}
    for level in LEVELS:
        found[f"strong_share_{round(100 * level)}"] = exact.share_keeping(level)
    return exact, {name: Figure(value) for name, value in found.items()}


def _compared(method: Method, router: Mapping[str, Array]) -> Method:
    """The method, with how far the router is ahead of it."""
    ahead = {n: _figure(router[n] - each) for n, each in method.draws.items() if n in router}
    return replace(method, ahead=ahead)


def _figure(values: Array) -> Figure:
    """Of a figure on all prompts, first, and on the resamples."""
    value = float(values[0])
    return Figure(value, None if np.isnan(value) else interval(values[1:]))


def _singles(
    trial: Trial, router: Predicted, markets: tuple[Market, Market] | None
) -> tuple[Choice, ...]:
    """Each model alone, and how far the router is ahead at that model's cost."""
    alone = [
        _choice(name, trial, np.full(len(trial), at, dtype=np.intp))
        for at, name in enumerate(trial.models)
    ]
    if markets is None:
        return tuple(alone)
    pool = markets[0]
    settings = pool.settings(router.quality, trial.expected_costs)
    ahead = pool.ahead_of_singles(settings)
    return tuple(
        replace(each, ahead=_figure(values)) for each, values in zip(alone, ahead.T, strict=True)
    )


def _choice(name: str, trial: Trial, choice: NDArray[np.intp]) -> Choice:
    rows = np.arange(len(choice))
    quality = float(trial.scores[rows, choice].mean())
    if not trial.priced:
        return Choice(name, quality, float("nan"))
    cost = 1000 * float(trial.costs[rows, choice].mean())
    near = optimality(choice, trial.scores, trial.costs)
    return Choice(
        name,
        quality,
        cost,
        arena_score(quality, cost),
        near.selection,
        near.cost_ratio,
        near.accuracy_ratio,
    )


def _arena(trial: Trial, predicted: Mapping[str, Predicted], reference: str) -> list[Choice]:
    """What the objective `quality` makes of each method's predictions. Random takes each model as
    often as the router does, for any prompt.
    """
    if not trial.priced:
        return []
    found = []
    for name in (*predicted, ORACLE):
        quality, costs = _prediction(name, trial, predicted)
        low = predicted[name].low if name in predicted else None
        choice = choose_within(quality, quality if low is None else low, costs, KEEP)
        found.append(_choice(name, trial, choice))
        if name == reference:
            found.append(_random_choice(trial, choice))
    return found


def _random_choice(trial: Trial, choice: NDArray[np.intp]) -> Choice:
    share = np.zeros(len(trial.models))
    for at, count in Counter(choice.tolist()).items():
        share[at] = count / len(choice)
    quality = float(trial.scores.mean(axis=0) @ share)
    cost = 1000 * float(trial.costs.mean(axis=0) @ share)
    return Choice(RANDOM, quality, cost, arena_score(quality, cost))


def calibrations(trial: Trial, predicted: Predicted) -> list[Calibration]:
    """How predictions of each model compare with its scores, in the order of the trial's models."""
    return [
        Calibration(
            model,
            ece(guess, scores),
            brier(guess, scores),
            auroc(guess, scores),
            tuple(reliability(guess, scores)),
        )
        for model, guess, scores in zip(
            trial.models, predicted.quality.T, trial.scores.T, strict=True
        )
    ]
