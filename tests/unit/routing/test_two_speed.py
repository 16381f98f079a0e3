"""A choice is clear exactly when no candidate's doubt, taken alone, could change it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.model import Model
from app.routing.decision import Decision
from app.routing.estimators.base import Candidate
from app.routing.estimators.prior import Prior
from app.routing.margin import Margin
from app.routing.objective import Objective, Option, Quality, Threshold, Tradeoff
from app.routing.route import Route
from app.routing.two_speed import FAMILIAR, clear

OBJECTIVES = st.sampled_from([Quality(keep=0.9), Tradeoff(10**9), Threshold(0.55, "a", "b")])


def option(name: str, quality: float, doubt: float | None, cost: int | None) -> Option:
    low, high = max(quality - 0.02, 0), min(quality + 0.02, 1)
    return Option(Model(name, "u", name), quality, low, high, 100, cost, doubt=doubt)


def decision(
    options: list[Option],
    objective: Objective = Quality(keep=0.9),  # noqa: B008 - a value
    margin: float = 1.0,
    novelty: float | None = 0.1,
) -> Decision:
    models = tuple(one.model for one in options)
    estimator = Prior([Candidate(model.name) for model in models])
    route = Route("auto", models, models[0], objective, estimator, margin=Margin(margin))
    order = objective.choose([one for one in options if one.eligible]).order
    plan = tuple(one.model for one in order)
    return Decision("learned", "", plan, route, tuple(options), novelty, "text")


OPTIONS = st.integers(2, 6).flatmap(
    lambda count: st.tuples(
        *(
            st.builds(
                option,
                st.just("abcdef"[at]),
                st.floats(0, 1),
                st.floats(0, 0.3),
                st.none() | st.integers(0, 10**9),
            )
            for at in range(count)
        )
    )
)


@given(OPTIONS, OBJECTIVES, st.floats(0, 3))
def test_clear_is_what_trying_every_move_finds(
    options: tuple[Option, ...], objective: Objective, margin: float
) -> None:
    taken = decision(list(options), objective, margin)

    def stays(at: int, by: float) -> bool:
        def moved(value: float) -> float:
            return min(max(value + by, 0), 1)

        one = options[at]
        tried = list(options)
        tried[at] = replace(
            one, quality=moved(one.quality), low=moved(one.low), high=moved(one.high)
        )
        return objective.choose(tried).order[0].model is taken.chosen

    found = all(
        stays(at, sign * margin * (one.doubt or 0))
        for at, one in enumerate(options)
        for sign in (-1, 1)
    )
    assert clear(taken) is found


@pytest.mark.parametrize(
    ("doubt", "margin", "expected"),
    [(0.03, 1.0, True), (0.03, 3.0, False), (0.3, 1.0, False), (0.3, 0.0, True), (0.0, 10.0, True)],
)
def test_the_margin_is_in_deviations_of_doubt(doubt: float, margin: float, expected: bool) -> None:
    options = [option("small", 0.9, doubt, 1), option("large", 0.92, doubt, 50)]
    assert clear(decision(options, margin=margin)) is expected


def test_the_best_getting_worse_can_let_a_cheaper_one_pass() -> None:
    options = [
        option("small", 0.8, 0.0, 1),
        option("middle", 0.89, 0.0, 5),
        option("large", 0.95, 0.1, 50),
    ]
    assert decision(options).chosen.name == "middle"
    assert not clear(decision(options))


def test_a_novel_prompt_is_never_clear() -> None:
    options = [option("small", 0.9, 0.01, 1), option("large", 0.9, 0.01, 50)]
    assert clear(decision(options, novelty=FAMILIAR))
    assert not clear(decision(options, novelty=FAMILIAR + 0.01))
    assert not clear(decision(options, novelty=None))


def test_where_nothing_can_be_learned_it_is_clear() -> None:
    known = [option("small", 0.9, None, 1), option("large", 0.9, None, 50)]
    assert clear(decision(known, novelty=1.0))
    alone = [option("small", 0.9, 0.3, 1), replace(known[1], reasons=("lacks_tools",))]
    assert clear(decision(alone, novelty=1.0))


def test_who_cannot_serve_has_no_say() -> None:
    out = replace(option("middle", 1.0, 1.0, 5), reasons=("lacks_tools",))
    options = [option("small", 0.9, 0.01, 1), out, option("large", 0.9, 0.01, 50)]
    assert clear(decision(options))
