"""The walk over thresholds: what it keeps, where it stops, and whether the promise holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.model import Model
from app.lab.guarantee import (
    GRID,
    Calibration,
    Gate,
    Terms,
    calibrate,
    choices,
    find_gate,
    least_rows,
    outcome,
    rows_needed,
    simulate,
)
from app.routing.guarantee import Guarantee
from app.routing.objective import Option
from app.routing.promise import Promise


def world(count: int, seed: int) -> Calibration:
    """A strong model right 4 times in 5, and a weak one worse by about what is predicted."""
    rng = np.random.default_rng(seed)
    gain = rng.beta(1.2, 4.0, count) * 0.7 - 0.05
    strong = (rng.random(count) < 0.8).astype(float)
    weak = (rng.random(count) < np.clip(0.8 - gain, 0, 1)).astype(float)
    predicted = gain + rng.normal(0, 0.03, count)
    return Calibration(strong, weak[:, None], predicted[:, None], np.zeros(count))


def test_the_choice_at_a_threshold_by_hand() -> None:
    rows = Calibration(
        strong=np.array([1.0, 1.0, 0.5]),
        cheaper=np.array([[0.1, 0.2], [0.3, 0.4], [0.6, 0.7]]),
        gains=np.array([[0.3, 0.1], [0.1, 0.0], [0.5, 0.4]]),
        novelty=np.zeros(3),
    )
    score, cheap = choices(rows, Gate(0.1, 1.0))
    # The second is all that fits row 0; the first fits row 1, though the second loses less.
    assert score.tolist() == [0.2, 0.3, 0.5]
    assert cheap.tolist() == [True, True, False]
    assert outcome(rows, Gate(0.1, 1.0)) == (pytest.approx(1.0 / 2.5), pytest.approx(2 / 3))


def test_novel_prompts_go_to_the_strong_model() -> None:
    rows = replace(world(50, 1), novelty=np.arange(50) / 50)
    _, cheap = choices(rows, Gate(1.0, 0.5))
    assert cheap.tolist() == [at <= 25 for at in range(50)]


def test_a_free_lunch_is_eaten_whole() -> None:
    rows = world(400, 2)
    found = calibrate(replace(rows, cheaper=rows.strong[:, None]), Terms())
    assert found is not None
    assert (found.kept, found.cheap_share, found.gate.threshold) == (1.0, 1.0, GRID[-1])


def test_nothing_is_promised_where_the_cheap_model_is_useless() -> None:
    useless = replace(world(400, 3), cheaper=np.zeros((400, 1)), gains=np.full((400, 1), 0.1))
    assert calibrate(useless, Terms()) is None
    assert rows_needed(useless, Terms()) is None


def test_what_may_be_lost_is_spent_even_on_a_useless_model() -> None:
    """Keeping .95 allows one request in twenty to fail; which ones is the router's business."""
    found = calibrate(replace(world(2000, 3), cheaper=np.zeros((2000, 1))), Terms())
    assert found is not None
    assert found.kept >= 0.95
    assert 0.02 < found.cheap_share < 0.07


@pytest.mark.parametrize("bound", ["betting", "bernstein", "normal"])
def test_the_walk_stops_at_the_first_failure(bound: str) -> None:
    """Ten percent that lose all, then ninety that gain all: later thresholds would pass again."""
    count = 2000
    first = np.arange(count) < count // 10
    rows = Calibration(
        strong=np.where(first, 1.0, 0.5),
        cheaper=np.where(first, 0.0, 1.0)[:, None],
        gains=np.where(first, 0.1, 0.2)[:, None],
        novelty=np.zeros(count),
    )
    assert find_gate(rows, Terms(bound=bound)) is None
    better = replace(rows, gains=0.3 - rows.gains)
    assert outcome(better, find_gate(better, Terms(bound=bound)))[1] >= 0.9


def test_between_changes_the_last_equal_threshold_is_kept() -> None:
    """Rows at gain 0 pass and those at .5 fail: everything below .5 chooses the same."""
    low = np.arange(1000) % 2 == 0
    rows = Calibration(
        strong=np.ones(1000),
        cheaper=np.where(low, 1.0, 0.0)[:, None],
        gains=np.where(low, 0.0, 0.5)[:, None],
        novelty=np.zeros(1000),
    )
    gate = find_gate(rows, Terms())
    assert gate is not None
    assert gate.threshold == pytest.approx(0.499)
    assert outcome(rows, gate) == (1.0, 0.5)


@pytest.mark.parametrize("bound", ["betting", "bernstein"])
def test_the_promise_holds_over_many_calibrations(bound: str) -> None:
    """240 calibrations on fresh rows of a world whose truth is known from 200,000 others."""
    truth, terms = world(200_000, 99), Terms(keep=0.95, delta=0.1, bound=bound)
    splits, broken, shares = 240, 0, []
    for seed in range(splits):
        kept, share = outcome(truth, find_gate(world(400, seed), terms))
        broken += kept < terms.keep
        shares.append(share)
    assert broken / splits <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / splits)
    if bound == "betting":
        assert broken > 0, "so few violations in so many: the bound wastes its power"
        assert np.mean(shares) > 0.2


def test_the_simulation_finds_a_bound_that_lies() -> None:
    lying = simulate(world(500, 5), Terms(delta=0.5, bound="normal"), splits=200)
    assert lying.violations > 0.25


def test_more_asked_is_less_saved() -> None:
    rows = world(3000, 6)

    def share(terms: Terms) -> float:
        return outcome(rows, find_gate(rows, terms))[1]

    assert share(Terms(keep=0.9)) > share(Terms(keep=0.95)) > share(Terms(keep=0.98))
    assert share(Terms(delta=0.3)) > share(Terms(delta=0.1)) > share(Terms(delta=0.005))
    assert share(Terms(bound="normal")) >= share(Terms()) > share(Terms(bound="bernstein"))


def test_the_order_of_rows_is_not_the_order_of_bets() -> None:
    """Sorted by outcome, bets would see a world that changes as they go."""
    rows = world(1000, 7)
    by_luck = rows.take(np.argsort(rows.strong - rows.cheaper[:, 0], kind="stable"))
    first, second = find_gate(rows, Terms()), find_gate(by_luck, Terms())
    assert first is not None
    assert second is not None
    assert first.threshold == pytest.approx(second.threshold, abs=0.06)


def test_how_many_rows_are_needed() -> None:
    needed = rows_needed(world(40, 8), Terms(keep=0.98))
    assert needed is not None
    assert needed[0] > 40
    assert find_gate(world(2 * needed[0], 9), Terms(keep=0.98)) is not None


@pytest.mark.parametrize(("bound", "about"), [("betting", 50), ("bernstein", 300), ("normal", 8)])
def test_no_data_is_good_enough_below_the_least(bound: str, about: int) -> None:
    least = least_rows(Terms(bound=bound))
    assert least == pytest.approx(about, rel=0.2)
    if bound != "normal":
        ones = np.ones(about // 2)
        perfect = Calibration(ones, ones[:, None], ones[:, None] * 0, ones * 0)
        assert find_gate(perfect, Terms(bound=bound)) is None


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_serving_chooses_as_the_calibration_did(
    qualities: list[float], threshold: float, limit: float, novelty: float
) -> None:
    promise = Promise(
        strong="large", weak=("small", "medium"), keep=0.95, delta=0.1, bound="betting",
        threshold=threshold, novelty_limit=limit, n=1, bound_value=0.0, kept=1.0, weak_share=0.0,
        date="2026-01-01", data=(), sources=(),
    )  # fmt: skip
    options = [
        Option(Model(name, "u", name), quality, quality, quality, 1.0, 1)
        for name, quality in zip(("large", "medium", "small"), qualities, strict=True)
    ]
    served = Guarantee(promise, "large", ("small", "medium")).choose(options, novelty).order[0]
    rows = Calibration(
        strong=np.array([0.0]),
        cheaper=np.array([[1.0, 0.5]]),
        gains=np.array([[qualities[0] - qualities[2], qualities[0] - qualities[1]]]),
        novelty=np.array([novelty]),
    )
    score, _ = choices(rows, Gate(threshold, limit))
    assert served.model.name == {0.0: "large", 1.0: "small", 0.5: "medium"}[float(score[0])]
