"""Facts before predictions, and no request lost for want of a prediction."""

from dataclasses import replace

import numpy as np
import pytest

from app.accounting.caller import ANONYMOUS
from app.catalog.model import Model, Prices
from app.errors import NoEligibleCandidate, UnknownModel
from app.routing.decision import by_rule, decide, eligible, obstacles, pin
from app.routing.estimators.base import Candidate, Estimate
from app.routing.estimators.prior import Prior
from app.routing.explain import REASONS, explain
from app.routing.facts import Facts
from app.routing.names import Names
from app.routing.objective import Quality, Threshold
from app.routing.route import Route

FACTS = Facts("hello", 100, None, 1, frozenset(), 1, 0)
SMALL = Model("small", "u", "s", Prices(100, 400), context_window=1_000, max_output=500)
LARGE = Model("large", "u", "l", Prices(2_500, 10_000), capabilities=frozenset({"tools"}))
SPARE = Model("spare", "u", "x", Prices(5_000, 20_000), capabilities=frozenset({"vision"}))


def route(*candidates: Model, fallbacks: tuple[Model, ...] = ()) -> Route:
    estimator = Prior([Candidate(model.name) for model in candidates])
    return Route("auto", candidates, candidates[-1], Quality(), estimator, fallbacks)


def estimate(small: float, large: float, support: float = 1e6) -> Estimate:
    return Estimate(
        ("small", "large"),
        np.array([small, large]),
        np.full(2, support),
        np.array([50.0, np.nan]),
        0.1,
    )


@pytest.mark.parametrize(
    ("model", "change", "reasons"),
    [
        (SMALL, {}, ()),
        (SMALL, {"needs": frozenset({"vision"})}, ()),  # not stated: taken to be capable
        (LARGE, {"needs": frozenset({"vision", "tools"})}, ("lacks_vision",)),
        (SMALL, {"input_tokens": 1_001}, ("context_too_small",)),
        (SMALL, {"input_tokens": 900, "max_output": 200}, ("context_too_small",)),
        (SMALL, {"max_output": 501}, ("output_too_small",)),
        (LARGE, {"input_tokens": 10**9}, ()),
    ],
)
def test_what_stands_in_the_way(
    model: Model, change: dict[str, object], reasons: tuple[str, ...]
) -> None:
    assert obstacles(model, replace(FACTS, **change)) == reasons  # type: ignore[arg-type]


def test_json_schema_includes_json_object() -> None:
    model = replace(LARGE, capabilities=frozenset({"json_schema"}))
    assert obstacles(model, replace(FACTS, needs=frozenset({"json_object"}))) == ()


def test_the_cheap_model_is_taken_where_it_is_as_good() -> None:
    decision = decide(route(SMALL, LARGE), FACTS, estimate(0.89, 0.9))
    assert (decision.chosen, decision.kind, decision.reason) == (SMALL, "learned", "meets_bar")
    assert decision.plan == (SMALL, LARGE)
    assert decision.options[0].output_tokens == 50
    assert decision.options[0].cost == round((100 * 100 + 50 * 400) / 1e6)


def test_the_dear_model_is_taken_where_it_is_better_or_nothing_is_known() -> None:
    assert decide(route(SMALL, LARGE), FACTS, estimate(0.5, 0.9)).chosen is LARGE
    assert decide(route(SMALL, LARGE), FACTS, estimate(0.89, 0.9, support=3)).chosen is LARGE


def test_an_ineligible_candidate_is_never_in_the_plan() -> None:
    facts = replace(FACTS, input_tokens=5_000)
    decision = decide(route(SMALL, LARGE), facts, estimate(0.9, 0.9))
    assert decision.plan == (LARGE,)
    assert decision.reason == "only_candidate"
    assert decision.options[0].reasons == ("context_too_small",)


def test_fallbacks_come_last_and_only_if_able() -> None:
    offered = route(SMALL, LARGE, fallbacks=(SPARE, SMALL))
    assert decide(offered, FACTS, estimate(0.9, 0.9)).plan == (SMALL, LARGE, SPARE)
    tools = replace(FACTS, needs=frozenset({"tools"}))
    assert decide(offered, tools, estimate(0.9, 0.9)).plan == (SMALL, LARGE)


def test_nobody_can() -> None:
    offered = route(LARGE, fallbacks=(SPARE,))
    audio = replace(FACTS, needs=frozenset({"audio"}))
    with pytest.raises(NoEligibleCandidate, match="large: lacks_audio"):
        eligible(offered, audio)
    vision = replace(FACTS, needs=frozenset({"vision"}))
    assert eligible(offered, vision) == []
    assert by_rule(offered, vision, "only_candidate").plan == (SPARE,)


def test_without_a_prediction_the_baseline_serves() -> None:
    decision = by_rule(route(SMALL, SPARE, LARGE), FACTS, "prediction_failed")
    assert decision.plan == (LARGE, SPARE, SMALL)


def test_output_is_expected_within_the_limits() -> None:
    decision = decide(route(SMALL, LARGE), replace(FACTS, max_output=20), estimate(0.9, 0.9))
    assert [option.output_tokens for option in decision.options] == [20, 20]


def test_explanations_know_every_reason() -> None:
    for decision in (
        pin(SMALL),
        decide(route(SMALL, LARGE), FACTS, estimate(0.9, 0.9)),
        by_rule(route(SMALL), FACTS, "only_candidate"),
    ):
        account = explain(decision, FACTS)
        assert account["explanation"] == REASONS[decision.reason]
        assert [c["model"] for c in account["candidates"]]


def test_names_resolve() -> None:
    auto = route(SMALL, LARGE)
    names = Names({"auto": auto, "gpt-4": auto}, {"small": SMALL, "large": LARGE})
    assert names.resolve("auto", ANONYMOUS) is auto
    assert names.resolve("gpt-4", ANONYMOUS) is auto
    assert names.resolve("pointsman/auto", ANONYMOUS) is auto
    assert names.resolve("small", ANONYMOUS) is SMALL
    by_threshold = names.resolve("router-knn-0.25", ANONYMOUS)
    assert isinstance(by_threshold, Route)
    assert by_threshold.objective == Threshold(0.25, strong="large")
    for unknown in ("smal", "router-knn-2", "router-mf-0.1", "pointsman/small", ""):
        with pytest.raises(UnknownModel) as caught:
            names.resolve(unknown, ANONYMOUS)
        assert caught.value.param == "model"
    with pytest.raises(UnknownModel, match="did you mean `small`"):
        names.resolve("smal", ANONYMOUS)


@pytest.mark.parametrize(
    "change",
    [
        {"needs": frozenset({"tools"})},
        {"needs": frozenset({"json_schema"})},
        {"input_tokens": 9_000},
        {"max_output": 900},
    ],
)
def test_no_fallback_is_in_a_plan_that_cannot_carry_it_out(change: dict[str, object]) -> None:
    narrow = replace(SPARE, name="narrow", context_window=8_000, max_output=800)
    wide = replace(LARGE, name="wide", capabilities=None)
    facts = replace(FACTS, **change)  # type: ignore[arg-type]
    offered = route(replace(LARGE, capabilities=None), fallbacks=(narrow, wide))
    assert [model.name for model in by_rule(offered, facts, "r").plan] == ["large", "wide"]
    offered = route(replace(SMALL, capabilities=frozenset()), fallbacks=(narrow,))
    with pytest.raises(NoEligibleCandidate):
        eligible(offered, facts)
