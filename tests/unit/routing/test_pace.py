"""A budget is met whatever the traffic does, and an explanation spends nothing."""

import numpy as np
import pytest

from app.routing.pace import DAY_SECONDS, Pace, PerDay, PerRequest

CHEAP, DEAR = 1_000.0, 10_000.0


def serve(pace: Pace, gain: float) -> float:
    """One request to the dear model where its gain is worth the price."""
    dear = gain > pace.quality_per_nano * (DEAR - CHEAP)
    cost = DEAR if dear else CHEAP
    pace.book(cost, DEAR - CHEAP)
    return cost


def test_spending_meets_a_budget_per_request_though_difficulty_drifts() -> None:
    rng = np.random.default_rng(0)
    pace = Pace(PerRequest(4_000.0))
    spent = [serve(pace, float(rng.uniform(0, 0.2 + 0.6 * n / 6000))) for n in range(6000)]
    assert np.mean(spent[1000:]) == pytest.approx(4_000.0, rel=0.03)


def test_a_true_cost_corrects_what_was_booked() -> None:
    pace = Pace(PerRequest(4_000.0))
    pace.book(DEAR, DEAR - CHEAP)
    dear = pace.quality_per_nano
    pace.correct(CHEAP - DEAR)
    assert pace.quality_per_nano < dear


def test_a_day_is_spent_evenly_and_starts_anew_at_midnight() -> None:
    now = 0.0
    day = PerDay(86_400.0, lambda: now)
    now = 3_600.0
    assert day.accrue() == pytest.approx(3_600.0)
    day.spend(86_400.0)
    now = 7_200.0
    assert day.accrue() == 0.0
    now = DAY_SECONDS + 60.0
    assert day.accrue() == pytest.approx(60.0)
    assert day.describe()["usd_spent_today"] == 0.0
