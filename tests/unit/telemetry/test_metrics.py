"""Counting a settled request, to the cent and without a label that grows."""

import pytest
from prometheus_client import CollectorRegistry

from app.exchange.record import Attempt, Record
from app.exchange.usage import Usage
from app.telemetry.metrics import Metrics, clamped


def settled(metrics: Metrics, **changes: object) -> Record:
    record = Record("r", started=0.0, received=0.0)
    record.route, record.decision, record.model, record.status = "auto", "learned", "small", 200
    usage = Usage(100, 50, cached_tokens=40, reasoning_tokens=10)
    record.attempts = [
        Attempt("u", "large", "server_error", 0.2, 502, cost=0),
        Attempt("u", "small", "ok", 0.1, 200, usage=usage, cost=1_500_000),
    ]
    record.usage = usage
    record.cost, record.baseline_cost = 1_500_000, 4_000_000
    record.duration_seconds, record.overhead_seconds = 0.31, 0.01
    if "cost" in changes and "attempts" not in changes:
        record.attempts[1].cost = changes["cost"]  # type: ignore[assignment]
    for name, value in changes.items():
        setattr(record, name, value)
    metrics.settle(record)
    return record


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_request_is_counted_once_and_its_attempts_apart() -> None:
    metrics = Metrics(CollectorRegistry())
    settled(metrics)
    labels = {"route": "auto", "model": "small", "code": "200", "decision": "learned"}
    assert value(metrics, "pointsman_requests_total", **labels) == 1
    for model, outcome in (("large", "server_error"), ("small", "ok")):
        labels = {"upstream": "u", "model": model, "outcome": outcome}
        assert value(metrics, "pointsman_upstream_attempts_total", **labels) == 1
    overhead = value(metrics, "pointsman_overhead_seconds_sum", route="auto")
    assert overhead is not None
    assert abs(overhead - 0.01) < 1e-9


def test_money_and_tokens() -> None:
    metrics = Metrics(CollectorRegistry())
    settled(metrics)
    settled(metrics, cost=5_000_000)
    cost = value(metrics, "pointsman_cost_dollars_total", route="auto", model="small")
    assert cost == pytest.approx(0.0065)
    for name, dollars in (("baseline_cost", 0.008), ("saved", 0.0025), ("overspent", 0.001)):
        counted = value(metrics, f"pointsman_{name}_dollars_total", route="auto")
        assert counted == pytest.approx(dollars)
    kinds = {"input": 200, "output": 100, "cached": 80, "reasoning": 20, "cache_write": None}
    for kind, count in kinds.items():
        assert value(metrics, "pointsman_tokens_total", model="small", kind=kind) == count


def test_an_unknown_cost_is_counted_as_unknown() -> None:
    metrics = Metrics(CollectorRegistry())
    settled(metrics, cost=None)
    assert value(metrics, "pointsman_unpriced_requests_total", model="small") == 1
    assert value(metrics, "pointsman_cost_dollars_total", route="auto", model="small") is None
    assert value(metrics, "pointsman_saved_dollars_total", route="auto") is None
    failed = [Attempt("u", "small", "server_error", 0.2, 502, cost=0)]
    settled(metrics, cost=0, model=None, usage=None, status=502, attempts=failed)
    assert value(metrics, "pointsman_unpriced_requests_total", model="small") == 1


def test_a_failed_attempt_is_booked_to_the_model_that_was_called() -> None:
    metrics = Metrics(CollectorRegistry())
    attempts = [
        Attempt("u", "large", "cut", 0.2, 502, usage=Usage(10, 0), cost=500_000, estimated=True),
        Attempt("u", "small", "ok", 0.1, 200, usage=Usage(100, 50), cost=1_500_000),
    ]
    record = settled(metrics, attempts=attempts, cost=2_000_000, cost_estimated=True)
    for model, dollars in (("large", 0.0005), ("small", 0.0015)):
        cost = value(metrics, "pointsman_cost_dollars_total", route="auto", model=model)
        assert cost == pytest.approx(dollars)
    assert value(metrics, "pointsman_saved_dollars_total", route="auto") == pytest.approx(0.002)
    assert record.saved == 2_000_000
    assert value(metrics, "pointsman_estimated_requests_total", model="large") == 1
    # An estimate is not what an upstream reported.
    assert value(metrics, "pointsman_tokens_total", model="large", kind="input") is None


def test_a_senseless_report_is_counted() -> None:
    metrics = Metrics(CollectorRegistry())
    attempts = [Attempt("u", "small", "ok", 0.1, 200, usage_fault="negative")]
    settled(metrics, attempts=attempts, cost=None, usage=None)
    assert value(metrics, "pointsman_senseless_usage_total", model="small") == 1
    assert value(metrics, "pointsman_unpriced_requests_total", model="small") == 1


def test_a_stream_that_broke_is_told_from_one_that_did_not() -> None:
    metrics = Metrics(CollectorRegistry())
    settled(metrics, outcome="cut")
    labels = {"route": "auto", "model": "small", "code": "broken", "decision": "learned"}
    assert value(metrics, "pointsman_requests_total", **labels) == 1


def test_status_labels_are_a_closed_list() -> None:
    assert [clamped(status) for status in (200, 418, 429, 599)] == ["200", "4xx", "429", "5xx"]


def test_the_page_renders() -> None:
    metrics = Metrics(CollectorRegistry())
    settled(metrics)
    assert b'pointsman_build{version="' in metrics.render()
