"""Several places for one model: the two forms, what is a mistake, and what each place costs."""

from __future__ import annotations

import pytest

from app.accounting.cost import cost
from app.accounting.most import Most, Size
from app.catalog.model import DeploymentLimits, Model
from app.compiling import Compiled, compile_config
from app.config.load import Loaded, loads
from app.errors import ConfigError
from app.exchange.terms import Hedge
from app.exchange.usage import Usage

TEXT = """\
upstreams:
  here: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}
  openai: {kind: openai, base_url: 'https://api.openai.com/v1'}
models:
  m: MODEL
"""
TWO = "{deployments: [{upstream: here}, {upstream: openai, id: gpt-4o}]}"


def compiled(model: str) -> Compiled:
    return compile_config(loads(TEXT.replace("MODEL", model)))


def only(model: str) -> Model:
    return compiled(model).models["m"]


def problems(model: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compiled(model)
    return [str(problem) for problem in caught.value.problems]


def test_the_short_form_is_one_deployment() -> None:
    model = only("{upstream: here, id: x, prices: {input: 1, output: 1}}")
    (place,) = model.deployments
    assert (place.name, place.upstream, place.upstream_id) == ("m", "here", "x")
    assert place.prices is model.prices


def test_names_tell_places_apart() -> None:
    model = only(
        "{deployments: [{upstream: here}, {upstream: openai}, {upstream: openai, id: gpt-4o}]}"
    )
    assert [(place.name, place.upstream_id) for place in model.deployments] == [
        ("m/here", "m"), ("m/openai/m", "m"), ("m/openai/gpt-4o", "gpt-4o"),
    ]  # fmt: skip
    assert (model.upstream, model.upstream_id) == ("here", "m")


def test_what_is_said_of_a_place() -> None:
    model = only(
        "{balance: least-busy, deployments: [{upstream: here, weight: 0, priority: 2, "
        "region: eu-1, limits: {parallel_requests: 5}}]}"
    )
    (place,) = model.deployments
    assert (model.balance, place.weight, place.priority, place.region) == (
        "least-busy",
        0,
        2,
        "eu-1",
    )
    assert place.limits == DeploymentLimits(parallel_requests=5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "{upstream: here, deployments: [{upstream: openai}]}",
            "models.m.upstream: give `upstream` or `deployments`, not both",
        ),
        ("{id: x, deployments: [{upstream: here}]}", "models.m.id: give `id` or `deployments`"),
        ("{quality: 0.5}", "models.m.upstream: is required (or several, as `deployments`)"),
        ("{deployments: []}", "models.m.deployments"),
        (
            "{deployments: [{upstream: her}]}",
            "models.m.deployments[0].upstream: no upstream named `her` (did you mean `here`?)",
        ),
        ("{deployments: [{upstream: here, weight: -1}]}", "models.m.deployments[0].weight: "),
        (
            "{deployments: [{upstream: here, wieght: 1}]}",
            "models.m.deployments[0].wieght: unknown key (did you mean `weight`?)",
        ),
        (
            "{deployments: [{upstream: here}, {upstream: here, id: m}]}",
            "models.m.deployments[1]: the same upstream and id are listed twice",
        ),
        (
            "{deployments: [{upstream: here, prices: auto}]}",
            "models.m.deployments[0].prices: no ready prices",
        ),
        (
            "{deployments: [{upstream: here, prices: {input: 1, outputs: 1, output: 2}}]}",
            "models.m.deployments[0].prices.outputs: unknown key (did you mean `output`?)",
        ),
        (
            "{deployments: [{upstream: here, prices: [*p, *p]}]}".replace(
                "*p", "{input: 1, output: 1}"
            ),
            "models.m.deployments[0].prices[1]: `from` is required",
        ),
        ("{upstream: here, balance: fastest}", "models.m.balance: must be one of"),
    ],
)
def test_mistakes_are_named(model: str, message: str) -> None:
    (told,) = problems(model)
    assert message in told


def test_ready_prices_go_by_each_places_upstream_and_id() -> None:
    found = compiled(TWO)
    here, there = found.models["m"].deployments
    assert here.prices is None
    assert there.prices is found.ready["m/openai"].prices
    assert found.models["m"].prices is None, "the first place's, and they are not known"
    (warning,) = [str(w) for w in found.warnings if "no prices" in str(w)]
    assert "models.m.deployments[0]" in warning


def test_a_models_prices_hold_for_all_but_those_with_their_own() -> None:
    model = only(
        "{prices: {input: 1, output: 1}, deployments: [{upstream: openai, id: gpt-4o}, "
        "{upstream: here, prices: {input: 3, output: 3}}]}"
    )
    usage = Usage(1_000_000, 0)
    costs = [cost(model.prices_at(place.name), usage) for place in model.deployments]
    assert costs == [10**9, 3 * 10**9]
    assert cost(model.prices, usage) == 10**9
    most = Most([model]).ask(model, Size(1_000_000, 1, 1))
    assert most.usd >= 3 * 10**9, "a budget must have room for the dearest"


def test_an_only_deployments_own_prices_hold_as_well() -> None:
    model = only(
        "{prices: {input: 1, output: 1}, deployments: [{upstream: here, prices: "
        "{input: 3, output: 3}}]}"
    )
    assert cost(model.prices_at(None), Usage(1_000_000, 0)) == 3 * 10**9


def test_strict_prices_ask_for_those_of_every_place() -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.deployments\[0\]: its prices are not known"):
        compile_config(loads("strict_prices: true\n" + TEXT.replace("MODEL", TWO)))


def test_a_routes_terms() -> None:
    text = TEXT.replace("MODEL", "{upstream: here}") + (
        "routes:\n  auto: {candidates: [m], router: null, timeouts: {idle_seconds: 7}, "
        "retries: {attempts: 4}, on_content_refusal: next_model}\n"
    )
    terms = compile_config(loads(text)).names.routes["auto"].terms
    assert (terms.timeouts.idle, terms.timeouts.total) == (7, None)
    assert terms.retries is not None
    assert terms.retries.attempts == 4
    assert terms.on_content_refusal == "next_model"
    assert terms.hedge is None


TWICE = "{deployments: [{upstream: here}, {upstream: here, id: m2}]}"


def hedging(hedge: str, model: str = TWICE, more: str = "") -> Loaded:
    models = "{upstream: here, quality: 0.5}"
    return loads(
        TEXT.replace("MODEL", model)
        + f"  other: {models}\n"
        + f"routes:\n  auto: {{candidates: [m], router: null, hedge: {hedge}{more}}}\n"
    )


def test_a_route_that_hedges() -> None:
    def hedge(written: str, **more: str) -> Hedge | None:
        return compile_config(hedging(written, **more)).names.routes["auto"].terms.hedge

    assert hedge("{}") == Hedge()
    assert hedge("{percentile: 90, budget_share: 0.1, min_seconds: 2}") == Hedge(90, 0.1, 2)
    alone = "{upstream: here}"
    assert hedge("{models: true}", model=alone, more=", fallbacks: [other]") == Hedge(models=True)


def test_a_low_budget_is_not_for_paying_twice() -> None:
    more = ", when_budget_low: {objective: {kind: quality, keep: 0.5}}"
    route = compile_config(hedging("{}", more=more)).names.routes["auto"]
    assert route.terms.hedge is not None
    assert route.thrifty is not None
    assert route.thrifty.terms.hedge is None


@pytest.mark.parametrize(
    ("hedge", "model", "message"),
    [
        ("{}", "{upstream: here}", "no model of this route has a second deployment to ask (list"),
        ("{models: true}", "{upstream: here}", "no model of this route has a second deployment"),
        ("{percentile: 100}", TWICE, "hedge.percentile: "),
        ("{budget_share: 0}", TWICE, "hedge.budget_share: "),
        ("{percentil: 99}", TWICE, "unknown key (did you mean `percentile`?)"),
        ("true", TWICE, "hedge: "),
    ],
)
def test_a_hedge_that_cannot_be(hedge: str, model: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_config(hedging(hedge, model))
    assert message in str(caught.value)
    assert "routes.auto.hedge" in str(caught.value)
