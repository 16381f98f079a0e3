"""Every attempt is booked to its request, and what is not known stays unknown."""

from time import time

import pytest

from app.accounting.charges import charge
from app.catalog.model import Deployment, Model
from app.catalog.prices import DatedPrices, Prices, today
from app.exchange.record import Attempt, Record
from app.exchange.usage import Usage

SMALL = Model("small", "u", "s", Prices(10**9, 2 * 10**9))
LARGE = Model("large", "u", "l", Prices(10 * 10**9, 20 * 10**9))
BARE = Model("bare", "u", "b")
MODELS = {model.name: model for model in (SMALL, LARGE, BARE)}


def record_of(*attempts: Attempt, served: str | None = "small") -> Record:
    record = Record("r", 0.0, 0.0, expected_input_tokens=1_000, model=served)
    record.attempts = list(attempts)
    return record


def tried(model: str, outcome: str, usage: Usage | None = None, **fields: object) -> Attempt:
    return Attempt("u", model, outcome, 0.1, usage=usage, **fields)  # type: ignore[arg-type]


def test_a_refused_attempt_costs_nothing() -> None:
    refused = tried("large", "server_error", charged=False)
    record = record_of(refused, tried("small", "ok", Usage(1_000, 500)))
    assert charge(record, MODELS, LARGE) == []
    assert [attempt.cost for attempt in record.attempts] == [0, 2_000_000]
    assert (record.cost, record.cost_estimated) == (2_000_000, False)
    assert record.baseline_cost == 20_000_000
    assert record.saved == 18_000_000


def test_what_broke_off_is_estimated_and_lowers_what_was_saved() -> None:
    record = record_of(tried("large", "timeout"), tried("small", "ok", Usage(1_100, 500)))
    charge(record, MODELS, LARGE)
    assert record.attempts[0].usage == Usage(1_000, 0)
    assert record.attempts[0].estimated
    assert record.cost == 10_000_000 + 2_100_000
    assert record.usage == Usage(1_100, 500)
    assert record.saved == 21_000_000 - 12_100_000
    assert record.cost_estimated


def test_a_hedge_costs_what_both_do_and_its_usage_is_that_of_the_winner() -> None:
    record = record_of(tried("small", "hedged_away"), tried("small", "ok", Usage(1_100, 500)))
    charge(record, MODELS, LARGE)
    assert [one.estimated for one in record.attempts] == [True, False]
    assert record.cost == 1_000_000 + 2_100_000
    assert record.usage == Usage(1_100, 500)
    assert record.saved == 21_000_000 - 3_100_000


@pytest.mark.parametrize("outcome", ["cut", "client_gone", "timeout", "failed"])
def test_a_stream_cut_short_is_what_was_reported_else_an_estimate(outcome: str) -> None:
    record = record_of(tried("small", outcome, Usage(900, 7), text_bytes=4_000))
    charge(record, MODELS, None)
    assert (record.cost, record.cost_estimated) == (914_000, False)
    record = record_of(tried("small", outcome, text_bytes=4_001))
    charge(record, MODELS, None)
    assert record.usage == Usage(1_000, 1_001)
    assert (record.cost, record.cost_estimated) == (3_002_000, True)


def test_an_answer_without_a_report_stays_unknown() -> None:
    record = record_of(tried("small", "ok", usage_fault="`prompt_tokens` is not a count"))
    (doubt,) = charge(record, MODELS, LARGE)
    assert (record.cost, record.baseline_cost, record.saved) == (None, None, None)
    assert doubt.key == "small/usage"
    assert "`prompt_tokens`" in doubt.message


def test_one_unknown_makes_the_sum_unknown() -> None:
    record = record_of(tried("bare", "cut"), tried("small", "ok", Usage(10, 10)))
    (doubt,) = charge(record, MODELS, LARGE)
    assert record.cost is None
    assert [attempt.cost for attempt in record.attempts] == [None, 30_000]
    assert not record.cost_estimated or record.attempts[0].estimated
    assert (doubt.key, "set its `prices`" in doubt.message) == ("bare/price", True)
    # What was not charged needs no price.
    record = record_of(
        tried("bare", "not_found", charged=False), tried("small", "ok", Usage(10, 10))
    )
    assert charge(record, MODELS, LARGE) == []
    assert record.cost == 30_000


def test_the_upstreams_own_cost_is_kept_beside_ours() -> None:
    usage = Usage(10, 10, upstream_cost=7)
    record = record_of(tried("large", "malformed", usage), tried("small", "ok", usage))
    charge(record, MODELS, None)
    assert record.cost == 300_000 + 30_000
    assert record.upstream_cost == 14


@pytest.mark.parametrize("outcome", ["timeout", "client_gone", "cut"])
def test_what_a_request_without_an_answer_cost_is_taken_off_what_is_saved(outcome: str) -> None:
    refused = tried("small", "server_error", charged=False)
    record = record_of(tried("large", outcome), refused, served=None)
    charge(record, MODELS, LARGE)
    assert (record.cost, record.baseline_cost, record.saved) == (10_000_000, 0, -10_000_000)
    # What has no baseline is compared with nothing, and an unknown cost is not 0.
    for attempt, baseline in ((tried("large", outcome), None), (tried("bare", outcome), LARGE)):
        record = record_of(attempt, served=None)
        charge(record, MODELS, baseline)
        assert record.saved is None


def test_nothing_tried_is_nothing_known() -> None:
    record = record_of(served=None)
    assert charge(record, MODELS, LARGE) == []
    assert (record.cost, record.baseline_cost) == (None, None)


def test_the_day_is_the_one_it_came_in_on() -> None:
    changed = DatedPrices((0, today()), (Prices(10**9, 10**9), Prices(9 * 10**9, 9 * 10**9)))
    models = {"small": Model("small", "u", "s", changed)}
    record = record_of(tried("small", "ok", Usage(1, 0)))
    charge(record, models, None)
    assert record.cost == 9_000
    record = record_of(tried("small", "ok", Usage(1, 0)))
    record.at = time() - (time() % 86_400 + 60)
    charge(record, models, None)
    assert record.cost == 1_000


def test_an_attempt_costs_what_the_deployment_that_was_asked_does() -> None:
    dear, unknown = Prices(7 * 10**9, 7 * 10**9), None
    places = (
        Deployment("pair/a", "a", "m", SMALL.prices),
        Deployment("pair/b", "b", "m", dear),
        Deployment("pair/c", "c", "m", unknown),
    )
    models = {"pair": Model("pair", "a", "m", SMALL.prices, deployments=places)}
    attempts = [
        tried("pair", "cut", Usage(1_000, 0), deployment="pair/b"),
        tried("pair", "ok", Usage(1_000, 0), deployment="pair/a"),
    ]
    record = record_of(*attempts, served="pair")
    charge(record, models, None)
    assert [each.cost for each in attempts] == [7_000_000, 1_000_000]
    record = record_of(tried("pair", "ok", Usage(1, 1), deployment="pair/c"), served="pair")
    (doubt,) = charge(record, models, None)
    assert record.cost is None
    assert "unknown" in doubt.message
