"""Spending follows the budget, whatever prices are, however traffic drifts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.model import Model
from app.exchange.money import NANO_PER_DOLLAR
from app.routing.budget import Budget
from app.routing.objective import Option
from app.routing.pace import DAY_SECONDS, DEAREST, STEP, Pace, PerDay, PerRequest

SMALL, LARGE = Model("small", "u", "s"), Model("large", "u", "l")


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Traffic:
    """Requests with costs 30 times apart, as long as they come, and harder and easier by turns.

    True costs are half or twice what is expected, times `factor` for all candidates alike.
    """

    def __init__(self, nano: float, factor: float = 1.0, seed: int = 0) -> None:
        self._nano = nano
        self._factor = factor
        self._rng = np.random.default_rng(seed)
        self._number = 0

    def request(self) -> list[Option]:
        hard = 0.5 + 0.5 * np.sin(self._number / 2000)
        self._number += 1
        gain = self._rng.normal(0.02 + 0.2 * hard, 0.1)
        expected = self._nano * self._rng.lognormal(-0.3, 0.8) / self._factor
        return [
            Option(SMALL, 0.7 - gain, 0, 1, 100, round(0.03 * expected)),
            Option(LARGE, 0.7, 0, 1, 100, round(expected)),
        ]

    def true_cost(self, option: Option) -> float:
        assert option.cost is not None
        return self._factor * option.cost * float(self._rng.lognormal(0.0, 0.45))


def serve(pace: Pace, options: list[Option]) -> tuple[Option, float]:
    """The option chosen and what was booked for it."""
    first = Budget(pace).choose(options).order[0]
    costs = [option.cost for option in options if option.cost is not None]
    return first, pace.book(first.cost, max(costs) - min(costs))


def spend(pace: Pace, traffic: Traffic, count: int, under_way: int = 0) -> np.ndarray:
    """True costs of requests in order, each settled after `under_way` others were decided."""
    waiting: list[tuple[float, float, float]] = []
    costs = []
    for _ in range(count):
        served, booked = serve(pace, traffic.request())
        costs.append(traffic.true_cost(served))
        waiting.append((costs[-1], booked, float(served.cost or 0)))
        if len(waiting) > under_way:
            pace.correct(*waiting.pop(0))
    return np.array(costs)


@pytest.mark.parametrize("nano", [1e3, 1e7])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("under_way", [0, 100])
def test_spending_per_request_follows_the_budget(nano: float, share: float, under_way: int) -> None:
    """What is off is the change of debt between both ends, so it shrinks as more is spent."""
    budget = share * nano
    costs = spend(Pace(PerRequest(budget)), Traffic(nano), 20_000, under_way)
    assert costs[2000:].mean() == pytest.approx(budget, rel=0.02)
    for part in np.split(costs[2000:], 6):
        assert part.mean() == pytest.approx(budget, rel=0.08)


@pytest.mark.parametrize("factor", [0.15, 6.0])
def test_lengths_expected_wrongly_do_not_slow_it_down(factor: float) -> None:
    """Answers all shorter, or all longer, than the outcomes that lengths come from."""
    costs = spend(Pace(PerRequest(2.5e5)), Traffic(1e6, factor), 4000, under_way=20)
    assert costs[500:].mean() == pytest.approx(2.5e5, rel=0.06)


def test_a_rich_budget_buys_the_best_and_no_more() -> None:
    pace, traffic = Pace(PerRequest(100e6)), Traffic(1e6)
    for _ in range(500):
        options = traffic.request()
        served, booked = serve(pace, options)
        pace.correct(traffic.true_cost(served), booked, served.cost)
        assert served.quality == max(option.quality for option in options)
    assert Budget(pace).choose(traffic.request()).reason == "budget_slack"
    assert Budget(pace).describe()["answer_value_usd"] is None


def test_a_budget_that_cannot_be_met_comes_back_soon() -> None:
    pace = Pace(PerRequest(1.0))
    spend(pace, Traffic(1e6), 5000)
    assert Budget(pace).choose(Traffic(1e6).request()).order[0].model is SMALL
    assert pace.quality_per_nano * 1e6 < 2 * DEAREST
    pace.allowance = PerRequest(100e6)
    spend(pace, Traffic(1e6), 50)
    assert pace.quality_per_nano == 0.0


def test_a_day_is_spent_evenly_over_uneven_traffic() -> None:
    """Ten times as many requests at noon as at midnight; three days at a third of full price."""
    clock, rng, nano = Clock(), np.random.default_rng(1), 1e6
    times, now = [], 0.0
    while now < 3 * DAY_SECONDS:
        rate = 0.01 + 0.09 * np.sin(np.pi * (now % DAY_SECONDS) / DAY_SECONDS) ** 2
        now += rng.exponential(1 / rate)
        times.append(now)
    budget = 0.3 * nano * len(times) / 3
    pace, traffic = Pace(PerDay(budget, clock)), Traffic(nano)
    spent = np.zeros(4)
    for clock.now in times:
        served, booked = serve(pace, traffic.request())
        cost = traffic.true_cost(served)
        pace.correct(cost, booked, served.cost)
        spent[int(clock.now // DAY_SECONDS)] += cost
    # Nobody forecasts that the last hours will be quiet, so some is left then.
    assert (spent[:3] < 1.03 * budget).all()
    assert (spent[:3] > 0.88 * budget).all()


def test_a_day_by_hand() -> None:
    clock = Clock(DAY_SECONDS * 5 + DAY_SECONDS / 2)
    day = PerDay(100.0, clock)  # at noon: 50 are taken to be spent
    clock.now += DAY_SECONDS / 4
    assert day.accrue() == pytest.approx(25)
    day.spend(40)  # 10 are left for the last quarter
    assert day.describe()["usd_spent_today"] == round(90 / NANO_PER_DOLLAR, 6)
    clock.now += DAY_SECONDS / 8
    assert day.accrue() == pytest.approx(5)
    day.spend(20)  # over: nothing is due before midnight
    clock.now += DAY_SECONDS / 16
    assert day.accrue() == 0
    clock.now += DAY_SECONDS / 16 + DAY_SECONDS / 10
    assert day.accrue() == pytest.approx(10)
    clock.now -= 50  # a clock set back gives nothing and takes nothing
    assert day.accrue() == 0


def test_the_price_by_hand() -> None:
    pace = Pace(PerRequest(100.0))
    booked = pace.book(1100.0, 1000.0)  # 1,000 over is one spread: one step
    assert booked == 1100.0
    assert pace.quality_per_nano == pytest.approx(STEP / 1000)
    pace.correct(0.0, booked)  # not served: all is given back, and more was due
    assert pace.quality_per_nano == 0.0
    pace.book(1200.0, 1000.0)
    assert pace.quality_per_nano == pytest.approx(STEP / 1000)
    pace.book(None, 0.0)  # nothing known: nothing moves
    assert pace.quality_per_nano == pytest.approx(STEP / 1000)


def test_savings_are_carried_over_up_to_a_limit() -> None:
    pace = Pace(PerRequest(1_000_000.0))
    pace.book(0.0, 1000.0)
    pace.allowance = PerRequest(0.0)
    pace.book(10_000.0, 1000.0)  # ten spreads were saved, not a thousand
    assert pace.quality_per_nano == pytest.approx(0.0, abs=1e-12)
    pace.book(1000.0, 1000.0)
    assert pace.quality_per_nano == pytest.approx(STEP / 1000)


def test_choosing_moves_nothing_and_shows_the_worth_of_an_answer() -> None:
    pace = Pace(PerRequest(100.0))
    pace.book(2600.0, 1000.0)
    budget = Budget(pace)
    options = [Option(SMALL, 0.7, 0, 1, 1, 0), Option(LARGE, 0.74, 0, 1, 1, 1000)]
    for _ in range(3):
        choice = budget.choose(options)
        assert (choice.order[0].model, choice.reason) == (SMALL, "budget_worth")
    shown = budget.describe()
    assert shown["usd_per_1k_requests"] == pytest.approx(1e-4)
    # .05 of quality for 1,000 nano-dollars: a right answer may cost 20,000 of them.
    assert shown["answer_value_usd"] == pytest.approx(2e-5)


@given(st.lists(st.tuples(st.floats(0, 1), st.none() | st.integers(0, 10**9)), min_size=2))
def test_what_has_no_price_is_last(columns: list[tuple[float, int | None]]) -> None:
    options = [
        Option(Model(str(at), "u", "m"), quality, 0, 1, 1, cost)
        for at, (quality, cost) in enumerate(columns)
    ]
    for price in (0.0, 10_000.0):
        pace = Pace(PerRequest(0.0))
        pace.book(price, 1.0)
        order = Budget(pace).choose(options).order
        known = [option.cost is not None for option in order]
        assert known == sorted(known, reverse=True)
        assert len(order) == len(options)


def test_a_next_pace_goes_on_with_debt_and_day() -> None:
    clock = Clock(DAY_SECONDS / 2)
    former = Pace(PerDay(1_000.0, clock))
    for _ in range(5):
        former.book(100.0, 50.0)
    following = Pace(PerDay(2_000.0, clock))
    following.succeed(former)
    assert following.quality_per_nano == former.quality_per_nano > 0
    spent = 500 + 500  # half the smaller budget by noon, then five requests
    assert following.allowance.describe()["usd_spent_today"] == round(spent / NANO_PER_DOLLAR, 6)
    assert following.allowance.describe()["usd_per_day"] == 2_000 / NANO_PER_DOLLAR


def test_what_the_former_pace_booked_is_corrected_in_the_next() -> None:
    former, alone = Pace(PerRequest(10.0)), Pace(PerRequest(10.0))
    booked = former.book(100.0, 50.0)
    alone.correct(300.0, alone.book(100.0, 50.0), 100.0)
    following = Pace(PerRequest(10.0))
    following.succeed(former)
    former.correct(300.0, booked, 100.0)
    assert following.quality_per_nano == alone.quality_per_nano
    assert former.book(100.0, 50.0) == following.book(100.0, 50.0) != 100.0
