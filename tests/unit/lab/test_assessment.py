"""An assessment is a pure function of scores and predictions."""

import dataclasses
import time

import numpy as np
import orjson
import pytest

from app.lab.assessment import assess
from app.lab.figures import ORACLE, RANDOM, ROUTER, ZERO
from app.lab.speeds import two_speed, unsure_curve
from app.lab.trial import Predicted, Trial

COSTS = (1e-4, 5e-4, 3e-3)


def trial_of(rows: int = 400, seed: int = 0, priced: bool = True, models: int = 3) -> Trial:
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 1.5, rows)
    ability = np.array([-0.5, 0.3, 1.6])[-models:]
    chance = 1 / (1 + np.exp(-ability - ease[:, None]))
    costs = np.tile(COSTS[-models:], (rows, 1)) * rng.uniform(0.5, 1.5, (rows, 1))
    return Trial(
        source="made-up",
        models=("small", "medium", "large")[-models:],
        strong=models - 1,
        weak=0,
        prompts=tuple("p" for _ in range(rows)),
        tasks=tuple("t" for _ in range(rows)),
        scores=(rng.random((rows, models)) < chance).astype(float),
        costs=costs if priced else np.full_like(costs, np.nan),
        expected_costs=np.tile(COSTS[-models:], (rows, 1)),
        rows=np.arange(rows),
        left_out={"same_prompt": 3, "incomplete": 0},
    )


def guess(trial: Trial, noise: float, seed: int = 1) -> Predicted:
    rng = np.random.default_rng(seed)
    return Predicted(
        np.clip(trial.scores * 0.5 + 0.25 + rng.normal(0, noise, trial.scores.shape), 0, 1)
    )


def test_the_router_lies_between_chance_and_the_oracle() -> None:
    trial = trial_of()
    good, bad = guess(trial, 0.2), guess(trial, 0.8)
    told = assess(trial, {ROUTER: good, "worse": bad}, seed=0, repeats=60)
    assert [method.name for method in told.methods] == [ROUTER, RANDOM, ZERO, "worse", ORACLE]
    apgr = {m.name: m.ranking["apgr"].value for m in told.methods if m.ranking}
    assert apgr[RANDOM] == pytest.approx(0.5)
    assert apgr[RANDOM] < apgr["worse"] < apgr[ROUTER] < apgr[ORACLE]
    aiq = {m.name: m.money["aiq"].value for m in told.methods}
    assert aiq[RANDOM] <= aiq[ZERO] < aiq[ROUTER] < aiq[ORACLE]
    assert told.method(ROUTER).ahead == {}
    ahead = told.method("worse").ahead["apgr"]
    assert ahead.value == pytest.approx(apgr[ROUTER] - apgr["worse"])
    assert ahead.interval is not None
    assert 0 < ahead.interval[0] < ahead.value < ahead.interval[1]
    assert {"aiq", "saving_95", "qnc"} <= set(told.method(ZERO).ahead)


def test_paired_intervals_are_narrower_than_the_figures_own() -> None:
    trial = trial_of()
    near = Predicted(guess(trial, 0.3).quality + 1e-3)
    told = assess(trial, {ROUTER: guess(trial, 0.3), "twin": near}, seed=0, repeats=60)
    ahead = told.method("twin").ahead["apgr"].interval
    own = told.method(ROUTER).ranking["apgr"].interval
    assert ahead is not None
    assert own is not None
    assert ahead[1] - ahead[0] < 0.01 < own[1] - own[0]


def test_the_same_seed_gives_the_same_json() -> None:
    trial = trial_of(60)
    once, again = (
        assess(trial, {ROUTER: guess(trial, 0.3)}, seed=5, repeats=20).as_dict() for _ in range(2)
    )
    assert orjson.dumps(once) == orjson.dumps(again)
    other = assess(trial, {ROUTER: guess(trial, 0.3)}, seed=6, repeats=20).as_dict()
    assert orjson.dumps(once) != orjson.dumps(other)


def test_the_json_has_stable_keys() -> None:
    trial = trial_of(60)
    told = assess(trial, {ROUTER: guess(trial, 0.3)}, seed=0, repeats=20).as_dict()
    assert set(told) == {
        "source", "rows", "left_out", "models_left_out", "models", "strong", "weak", "quality",
        "cost_usd_per_1k", "methods", "singles", "arena", "calibration",
    }  # fmt: skip
    router = told["methods"][0]
    ranking = {
        "apgr", "cpt50", "cpt80", "pgr25", "pgr50", "pgr75", "apgr_routellm", "cpt50_routellm",
        "cpt80_routellm", "pgr50_routellm", "strong_share_90", "strong_share_95", "strong_share_98",
    }  # fmt: skip
    money = {"aiq", "qnc", "saving_90", "saving_95", "saving_98"}
    assert ranking | money | {
        "name",
        "apgr_interval",
        "aiq_interval",
        "pair",
        "router_ahead",
    } <= set(router)
    assert money <= set(router["pair"])
    assert money <= set(router["pair_tradeoff"])
    assert set(told["singles"][0]) == {
        "model", "quality", "quality_kept", "cost_usd_per_1k", "saving", "arena_score",
        "optimal_selection", "optimal_cost_ratio", "optimal_accuracy_ratio",
        "router_ahead_at_its_cost",
    }  # fmt: skip
    assert [each["name"] for each in told["arena"]["methods"]] == [ROUTER, RANDOM, ORACLE]
    assert set(told["calibration"][0]) == {"model", "ece", "brier", "auroc"}
    assert b"NaN" not in orjson.dumps(told)


def test_without_costs_there_is_no_figure_in_money() -> None:
    trial = trial_of(60, priced=False)
    told = assess(trial, {ROUTER: guess(trial, 0.3)}, seed=0, repeats=20).as_dict()
    assert told["cost_usd_per_1k"] == {"strong": None, "weak": None}
    assert told["arena"]["methods"] == []
    assert not any(name.startswith(("aiq", "saving")) for m in told["methods"] for name in m)
    assert all(one["saving"] is None is one["arena_score"] for one in told["singles"])


def test_of_two_models_the_pair_is_the_pool() -> None:
    trial = trial_of(60, models=2)
    told = assess(trial, {ROUTER: guess(trial, 0.3)}, seed=0, repeats=20)
    for method in told.methods:
        assert method.money == method.pair_money
    random, zero = told.method(RANDOM).money, told.method(ZERO).money
    assert random["aiq"].value == pytest.approx(zero["aiq"].value, abs=1e-6)


def test_by_price_a_pair_spares_the_strong_model_where_it_is_dear() -> None:
    # Four prompts gain alike; for the last two the strong model costs ten times as much.
    scores = np.tile([0.0, 1.0], (40, 1))
    costs = np.column_stack((np.ones(40), np.repeat([2.0, 20.0], 20)))
    trial = dataclasses.replace(
        trial_of(40, models=2), scores=scores, costs=costs, expected_costs=costs
    )
    told = assess(trial, {ROUTER: Predicted(scores * 0.6)}, seed=0, repeats=20)
    method = told.method(ROUTER)
    assert method.money["saving_90"].value == pytest.approx(1 - (0.1 + 0.9 * 11) / 11, abs=1e-3)
    # By price the cheap half comes first: .9 of the quality leaves out 4 of the dear 20.
    spent = (20 * 2 + 16 * 20 + 4 * 1) / 40
    assert method.tradeoff_money["saving_90"].value == pytest.approx(1 - spent / 11, abs=1e-3)


def test_ties_that_routellms_harness_refuses_give_no_figure_in_its_form() -> None:
    trial = trial_of(60)
    coarse = Predicted(np.round(guess(trial, 0.3).quality))
    told = assess(trial, {ROUTER: coarse}, seed=0, repeats=20)
    assert np.isnan(told.method(ROUTER).ranking["apgr_routellm"].value)
    assert not np.isnan(told.method(ROUTER).ranking["apgr"].value)
    assert told.method(RANDOM).ranking["cpt80_routellm"].value == pytest.approx(0.8)


def test_ten_thousand_rows_take_seconds() -> None:
    trial = trial_of(10_000)
    started = time.perf_counter()
    assess(trial, {ROUTER: guess(trial, 0.3)}, seed=0, repeats=500)
    assert time.perf_counter() - started < 20


def test_two_speeds_run_from_the_words_to_the_vectors() -> None:
    trial = trial_of()
    full, text = guess(trial, 0.2), guess(trial, 0.8, seed=2)
    told = two_speed(trial, full, text)
    never, always = told["never"]["apgr"], told["always"]["apgr"]
    assert never < always
    apgrs = [dial["apgr"] for dial in told["when_unsure"]]
    assert [dial["encoded"] for dial in told["when_unsure"]] == [0.05, 0.1, 0.15, 0.3, 0.5]
    assert never - 0.02 < apgrs[0] < apgrs[-1] < always + 0.02
    assert told["when_unsure"][0]["lost"] == pytest.approx(always - apgrs[0])


def test_two_speeds_end_at_one_of_them() -> None:
    trial = trial_of()
    weak, strong = trial.weak_scores, trial.strong_scores
    words, vector = trial.gain(guess(trial, 0.8, seed=2)), trial.gain(guess(trial, 0.2))
    told = two_speed(trial, guess(trial, 0.2), guess(trial, 0.8, seed=2))
    for encoded, name in ((0.0, "never"), (1.0, "always")):
        curve = unsure_curve(words, vector, weak, strong, encoded)
        assert (curve.share[0], curve.share[-1]) == (0.0, 1.0)
        assert curve.apgr() == pytest.approx(told[name]["apgr"], abs=0.01)


def test_equal_models_have_no_gap_and_null_says_so() -> None:
    trial = trial_of(60)
    same = dataclasses.replace(trial, scores=np.ones_like(trial.scores))
    told = assess(same, {ROUTER: guess(trial, 0.3)}, seed=0, repeats=10).as_dict()
    assert told["methods"][0]["apgr"] is None
    assert "apgr_interval" not in told["methods"][0]
