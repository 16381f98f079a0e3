"""Each objective chooses what its definition says, whatever the options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.model import Model
from app.routing.objective import Option, Quality, Threshold, Tradeoff


def option(name: str, quality: float, cost: int | None, width: float = 0.0) -> Option:
    return Option(
        model=Model(name, "u", name),
        quality=quality,
        low=max(quality - width, 0),
        high=min(quality + width, 1),
        output_tokens=100,
        cost=cost,
    )


def names(options: tuple[Option, ...]) -> list[str]:
    return [each.model.name for each in options]


OPTIONS = st.lists(
    st.builds(
        option,
        st.sampled_from("abcdefgh"),
        st.floats(0, 1),
        st.none() | st.integers(0, 10**9),
        st.floats(0, 0.5),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each.model.name,
)


def test_quality_takes_the_cheapest_that_is_surely_good_enough() -> None:
    options = [option("small", 0.86, 1), option("middle", 0.87, 5), option("large", 0.9, 50)]
    choice = Quality(keep=0.95).choose(options)
    assert names(choice.order) == ["small", "middle", "large"]
    assert choice.reason == "meets_bar"


def test_quality_wants_to_be_sure() -> None:
    unsure = option("small", 0.89, 1, width=0.2)
    choice = Quality(keep=0.95).choose([unsure, option("large", 0.9, 50, width=0.2)])
    assert names(choice.order) == ["large", "small"]
    assert choice.reason == "best_quality"


def test_an_unknown_price_is_never_cheap() -> None:
    options = [option("unpriced", 0.9, None), option("priced", 0.9, 10**9)]
    for objective in (Quality(), Tradeoff(10**9)):
        assert names(objective.choose(options).order)[0] == "priced"


@given(OPTIONS, st.floats(0.01, 1))
def test_quality_keeps_its_promise(options: list[Option], keep: float) -> None:
    order = Quality(keep=keep).choose(options).order
    best = max(each.quality for each in options)
    chosen = order[0]
    assert chosen.quality == best or chosen.low >= keep * best
    cheaper = [o for o in options if o.price_rank < chosen.price_rank and o.low >= keep * best]
    assert not cheaper


@given(OPTIONS, st.integers(1, 10**12))
def test_tradeoff_takes_the_most_value(options: list[Option], value: int) -> None:
    first = Tradeoff(value).choose(options).order[0]
    worth = [o.quality * value - o.price_rank for o in options]
    assert first.quality * value - first.price_rank == max(worth)


@given(OPTIONS, st.floats(0, 1))
def test_every_option_is_in_the_order_once(options: list[Option], x: float) -> None:
    for objective in (Quality(keep=max(x, 0.1)), Tradeoff(10**9), Threshold(x)):
        assert sorted(names(objective.choose(options).order)) == sorted(names(tuple(options)))


@pytest.mark.parametrize(("threshold", "first"), [(0.55, "strong"), (0.65, "weak")])
def test_threshold_compares_the_win_rate(threshold: float, first: str) -> None:
    options = [option("weak", 0.6, 1), option("strong", 0.8, 50)]  # win rate 0.6
    order = Threshold(threshold, "strong", "weak").choose(options).order
    assert order[0].model.name == first


def test_threshold_does_without_an_ineligible_side() -> None:
    only = [option("weak", 0.6, 1)]
    assert Threshold(0.5, "strong", "weak").choose(only).reason == "only_candidate"
    others = [option("middle", 0.7, 5), option("weak", 0.6, 1)]
    assert names(Threshold(0.5, "strong", "weak").choose(others).order) == ["middle", "weak"]
