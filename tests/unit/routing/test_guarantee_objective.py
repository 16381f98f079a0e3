"""A promise from its file to a decision: what it covers, what it chooses, and what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.catalog.model import Model, Prices
from app.errors import ArtifactError
from app.routing.artifact import MANIFEST_FILE
from app.routing.decision import decide
from app.routing.estimators.base import Candidate, Estimate
from app.routing.estimators.prior import Prior
from app.routing.explain import explain
from app.routing.facts import Facts
from app.routing.guarantee import Guarantee
from app.routing.objective import Option
from app.routing.promise import PROMISES_FILE, Promise, Promises, best_promise, read_promises
from app.routing.route import Route

PROMISE = Promise(
    strong="large", weak=("small", "medium"), keep=0.95, delta=0.1, bound="betting",
    threshold=0.1, novelty_limit=0.8, n=1000, bound_value=-0.002, kept=0.96, weak_share=0.4,
    date="2026-11-25", data=(), sources=("synthetic",),
)  # fmt: skip
OBJECTIVE = Guarantee(PROMISE, "large", ("small", "medium"))
FACTS = Facts("hello", 100, None, 1, frozenset(), 1, 0)


def option(name: str, quality: float, cost: int | None = 1) -> Option:
    return Option(Model(name, "u", name), quality, quality, quality, 100.0, cost)


def chosen(*options: Option, novelty: float = 0.0) -> tuple[list[str], str]:
    choice = OBJECTIVE.choose(options, novelty)
    return [each.model.name for each in choice.order], choice.reason


@pytest.mark.parametrize(
    ("small", "medium", "order", "reason"),
    [
        (0.81, 0.79, ["small", "large", "medium"], "promise_cheap"),
        (0.79, 0.85, ["medium", "large", "small"], "promise_cheap"),
        (0.70, 0.75, ["large", "medium", "small"], "promise_strong"),
    ],
)
def test_the_first_cheaper_model_within_the_threshold(
    small: float, medium: float, order: list[str], reason: str
) -> None:
    options = option("small", small), option("medium", medium), option("large", 0.9)
    assert chosen(*options) == (order, reason)


def test_the_promised_order_counts_not_the_cost_of_the_day() -> None:
    dear = option("small", 0.85, cost=10**9)
    assert chosen(dear, option("medium", 0.85), option("large", 0.9))[0][0] == "small"


def test_the_novel_goes_to_the_strong_model() -> None:
    options = option("small", 0.95), option("large", 0.9)
    assert chosen(*options, novelty=0.8)[0][0] == "small"
    assert chosen(*options, novelty=0.81) == (["large", "small"], "promise_novel")


def test_what_cannot_serve_falls_out() -> None:
    assert chosen(option("medium", 0.85), option("large", 0.9))[0] == ["medium", "large"]
    without = chosen(option("small", 0.7), option("medium", 0.8))
    assert without == (["medium", "small"], "promise_void")


def test_a_decision_shows_the_promise() -> None:
    models = tuple(Model(name, "u", name, Prices(1, 1)) for name in ("small", "medium", "large"))
    prior = Prior([Candidate(model.name) for model in models])
    route = Route("auto", models, models[-1], OBJECTIVE, prior)
    estimate = Estimate(
        ("small", "medium", "large"), np.array([0.85, 0.8, 0.9]), np.full(3, 9.0), np.ones(3), 0.1
    )
    account = explain(decide(route, FACTS, estimate), FACTS)
    assert (account["model"], account["reason"]) == ("small", "promise_cheap")
    told = {"keep": 0.95, "delta": 0.1, "bound": "betting", "threshold": 0.1}
    told |= {"calibration_prompts": 1000, "calibrated": "2026-11-25"}
    assert told.items() <= account["objective"].items()
    assert "traffic like the calibration data" in account["objective"]["promise"]
    assert decide(route, FACTS, replace(estimate, novelty=0.9)).chosen.name == "large"
    tools = replace(FACTS, needs=frozenset({"tools"}))
    unable = replace(models[-1], capabilities=frozenset())
    without = replace(route, candidates=(*models[:2], unable))
    assert decide(without, tools, estimate).reason == "promise_void"


@pytest.mark.parametrize(
    ("strong", "weak", "keep", "delta", "covered"),
    [
        ("large", ["medium", "small"], 0.95, 0.1, True),
        ("large", ["medium", "small"], 0.9, 0.2, True),
        ("large", ["medium", "small"], 0.96, 0.1, False),
        ("large", ["medium", "small"], 0.95, 0.05, False),
        ("large", ["small"], 0.95, 0.1, False),
        ("medium", ["large", "small"], 0.95, 0.1, False),
    ],
)
def test_a_promise_covers_what_is_asked_less_of(
    strong: str, weak: list[str], keep: float, delta: float, covered: bool
) -> None:
    assert PROMISE.covers(strong, weak, keep, delta) is covered


def test_the_most_useful_of_several() -> None:
    strict = PROMISE.model_copy(update={"keep": 0.98, "weak_share": 0.2})
    weak = ["small", "medium"]
    assert best_promise([strict, PROMISE], "large", weak, 0.9, 0.1) is PROMISE
    assert best_promise([strict, PROMISE], "large", weak, 0.97, 0.1) is strict
    assert best_promise([strict, PROMISE], "large", weak, 0.99, 0.1) is None


def test_a_promise_on_the_same_terms_takes_the_place() -> None:
    newer = PROMISE.model_copy(update={"n": 2000})
    other = PROMISE.model_copy(update={"keep": 0.9})
    promises = Promises(router="x", guarantees=(PROMISE, other)).adding(newer)
    assert promises.guarantees == (other, newer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST_FILE).write_text("{}")
    return tmp_path


def test_the_file_belongs_to_one_router(folder: Path) -> None:
    empty = read_promises(folder, MANIFEST_FILE)
    assert empty.guarantees == ()
    (folder / PROMISES_FILE).write_text(empty.adding(PROMISE).model_dump_json())
    assert read_promises(folder, MANIFEST_FILE).guarantees == (PROMISE,)
    (folder / MANIFEST_FILE).write_text('{"trained": "again"}')
    with pytest.raises(ArtifactError, match="calibrated with another router"):
        read_promises(folder, MANIFEST_FILE)


@pytest.mark.parametrize("change", [{"threshold": 2}, {"weak": []}, {"more": 1}, {"delta": None}])
def test_a_damaged_file_is_refused(folder: Path, change: dict[str, object]) -> None:
    written = read_promises(folder, MANIFEST_FILE).adding(PROMISE).model_dump()
    written["guarantees"][0].update(change)
    (folder / PROMISES_FILE).write_bytes(orjson.dumps(written))
    with pytest.raises(ArtifactError, match="remove it and run `pointsman calibrate`"):
        read_promises(folder, MANIFEST_FILE)
