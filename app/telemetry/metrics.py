"""Prometheus metrics, in base units and with bounded labels: never a key, a user or a prompt.

The registry is injected. With several workers (`PROMETHEUS_MULTIPROC_DIR` set before the first
import of prometheus_client) values live in files that all workers share, and `/metrics` of any
worker shows the sum. docs/metrics.md describes every name; a test holds the two together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app import __version__
from app.exchange.money import NANO_PER_DOLLAR
from app.exchange.record import Record
from app.exchange.usage import Usage

# A timestamp a series doubles the page and no panel uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)
_STATUSES = frozenset(
    {200, 400, 401, 402, 403, 404, 405, 408, 413, 422, 429, 499, 500, 502, 503, 504}
)

CLIENT_CLOSED = 499
"""Status booked for a request whose client went away; nobody is there to see it."""


BROKEN = "broken"
"""Code label of a stream that had begun well, with a 200, and then ended in an error event."""
_STATES = {"closed": 0, "half_open": 1, "open": 2}
_BROKEN_OUTCOMES = frozenset({"failed", "cut", "timeout", "malformed", "stopped"})


def clamped(status: int) -> str:
    """A status label from a closed list."""
    return str(status) if status in _STATUSES else f"{status // 100}xx"


def _multiprocess() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def _bury_dead() -> None:
    """A killed worker can't take its requests out of what is in flight; the next one does."""
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)


class Metrics:
    """Every metric of the gateway. One object a process; tests make their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        if _multiprocess():
            _bury_dead()
        self._define_requests()
        self._define_config()
        self._define_money()
        self._define_routing()
        self._define_cache()
        self._define_ledger()
        self._define_limits()
        self._define_deployments()
        # `labels()` validates and locks; on the hot path it would cost more than the counting.
        self._child = lru_cache(maxsize=16_384)(_labelled)

    def _define_requests(self) -> None:
        r = self.registry
        self.requests = Counter(
            "pointsman_requests", "Responses to clients.",
            ["route", "model", "code", "decision"], registry=r,
        )  # fmt: skip
        self.attempts = Counter(
            "pointsman_upstream_attempts", "Calls to upstreams, by how they ended.",
            ["upstream", "model", "outcome"], registry=r,
        )  # fmt: skip
        self.in_flight = Gauge(
            "pointsman_requests_in_flight", "Requests being served now.",
            registry=r, multiprocess_mode="livesum",
        )  # fmt: skip
        self.duration = Histogram(
            "pointsman_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            ["route"], buckets=_LATENCY, registry=r,
        )  # fmt: skip
        self.first_token = Histogram(
            "pointsman_time_to_first_token_seconds",
            "From the request's body to the first event of its stream.",
            ["model"], buckets=_LATENCY, registry=r,
        )  # fmt: skip
        self.overhead = Histogram(
            "pointsman_overhead_seconds",
            "Time spent in the gateway itself, to the first byte that the client could see.",
            ["route"], buckets=_OVERHEAD, registry=r,
        )  # fmt: skip
        self.upstream_duration = Histogram(
            "pointsman_upstream_duration_seconds",
            "From sending an attempt to its end; for streams to the first event.",
            ["upstream"], buckets=_LATENCY, registry=r,
        )  # fmt: skip
        self.build = Gauge(
            "pointsman_build", "1, with the version as a label.",
            ["version"], registry=r, multiprocess_mode="max",
        )  # fmt: skip
        self.build.labels(__version__).set(1)

    def _define_config(self) -> None:
        r = self.registry
        self.config = Gauge(
            "pointsman_config", "1 for the configuration in service, 0 for one before it, by the "
            "first 12 digits of the file's SHA-256.",
            ["hash"], registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.config_ok = Gauge(
            "pointsman_config_last_reload_successful", "Whether the last configuration that was to "
            "be loaded was taken.", registry=r, multiprocess_mode="livemin",
        )  # fmt: skip
        self.config_loaded = Gauge(
            "pointsman_config_last_reload_success_timestamp_seconds", "When a configuration was "
            "last taken, in seconds since 1970.", registry=r, multiprocess_mode="livemin",
        )  # fmt: skip

    def _define_money(self) -> None:
        r = self.registry
        self.tokens = Counter(
            "pointsman_tokens", "Tokens that upstreams reported. Input includes cached and cache "
            "write; output includes reasoning.", ["model", "kind"], registry=r,
        )  # fmt: skip
        self.cost = Counter(
            "pointsman_cost_dollars", "Cost of requests, in US dollars.",
            ["route", "model"], registry=r,
        )  # fmt: skip
        self.baseline_cost = Counter(
            "pointsman_baseline_cost_dollars",
            "What the same usage would have cost at the route's baseline model, in US dollars.",
            ["route"], registry=r,
        )  # fmt: skip
        self.saved = Counter(
            "pointsman_saved_dollars", "Saved against the baseline, in US dollars, where the "
            "choice was cheaper. Net saving is this less pointsman_overspent_dollars_total.",
            ["route"], registry=r,
        )  # fmt: skip
        self.overspent = Counter(
            "pointsman_overspent_dollars",
            "Spent beyond the baseline, in US dollars, where the choice was dearer.",
            ["route"], registry=r,
        )  # fmt: skip
        self.unpriced = Counter(
            "pointsman_unpriced_requests", "Requests whose cost is unknown: a price or the usage "
            "is missing.", ["model"], registry=r,
        )  # fmt: skip
        self.estimated = Counter(
            "pointsman_estimated_requests", "Requests whose cost is in part an estimate: a call "
            "broke off before its usage was reported.", ["model"], registry=r,
        )  # fmt: skip
        self.senseless = Counter(
            "pointsman_senseless_usage", "Reports of usage that made no sense and were not used.",
            ["model"], registry=r,
        )  # fmt: skip

    def _define_routing(self) -> None:
        r = self.registry
        self.decisions = Counter(
            "pointsman_decisions", "Routing decisions, by kind and reason.",
            ["route", "decision", "reason"], registry=r,
        )  # fmt: skip
        self.predictions = Counter(
            "pointsman_predictions", "Decisions predicted by a router, by what was read for it: "
            "the text alone, a vector that was cached, or one encoded for it.",
            ["route", "speed"], registry=r,
        )  # fmt: skip
        self.decide = Histogram(
            "pointsman_decision_seconds", "Time to decide, encoding included.",
            ["route"], buckets=_OVERHEAD, registry=r,
        )  # fmt: skip
        self.encode = Histogram(
            "pointsman_encode_seconds", "Time of the encoder for one prompt that was not cached.",
            buckets=_OVERHEAD, registry=r,
        )  # fmt: skip
        self.encoder_cache = Counter(
            "pointsman_encoder_cache", "Look-ups of a prompt's vector.", ["result"], registry=r,
        )  # fmt: skip
        self.novel = Histogram(
            "pointsman_novelty_ratio",
            "How unlike the router's outcomes a prompt is: 0 familiar, 1 unlike anything seen.",
            ["route"], buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1.0), registry=r,
        )  # fmt: skip

    def _define_cache(self) -> None:
        r = self.registry
        self.cache_requests = Counter(
            "pointsman_cache_requests", "Requests to a gateway that caches answers: answered from "
            "the cache (hit), looked for in vain (miss), or not looked for (bypass).",
            ["route", "result"], registry=r,
        )  # fmt: skip
        self.cache_entries = Gauge(
            "pointsman_cache_entries", "Answers in the memory of the process.",
            registry=r, multiprocess_mode="livesum",
        )  # fmt: skip
        self.cache_bytes = Gauge(
            "pointsman_cache_bytes", "Size of the answers in the memory of the process.",
            registry=r, multiprocess_mode="livesum",
        )  # fmt: skip

    def _define_ledger(self) -> None:
        r = self.registry
        self.ledger_records = Counter(
            "pointsman_ledger_records", "Settled requests that the database has taken.", registry=r,
        )  # fmt: skip
        self.ledger_pending = Gauge(
            "pointsman_ledger_pending_records", "Settled requests that are not in the database "
            "yet.", registry=r, multiprocess_mode="livesum",
        )  # fmt: skip
        self.ledger_lag = Gauge(
            "pointsman_ledger_lag_seconds", "How long settled requests have been waiting for "
            "their place in the database.", registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.ledger_errors = Counter(
            "pointsman_ledger_errors", "Failures of the ledger, by what failed.",
            ["kind"], registry=r,
        )  # fmt: skip
        self.ledger_lost = Counter(
            "pointsman_ledger_lost_records", "Settled requests that neither the journal nor the "
            "memory set aside could take.", registry=r,
        )  # fmt: skip

    def _define_limits(self) -> None:
        r = self.registry
        self.refusals = Counter(
            "pointsman_limit_refusals", "Requests refused by a limit, by the one that was named.",
            ["scope", "kind"], registry=r,
        )  # fmt: skip
        self.low_budgets = Counter(
            "pointsman_budget_warnings", "Budgets that a reply warned of, as spent to their soft "
            "share.", ["scope"], registry=r,
        )  # fmt: skip
        self.redis_away = Gauge(
            "pointsman_redis_away", "Whether a process counts by itself because Redis can't be "
            "reached.", registry=r, multiprocess_mode="livemax",
        )  # fmt: skip

    def _define_deployments(self) -> None:
        r = self.registry
        self.deployment_state = Gauge(
            "pointsman_deployment_state", "Breaker of a deployment: 0 closed, 1 half open, 2 open; "
            "of the worst worker.",
            ["deployment"], registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.openings = Counter(
            "pointsman_deployment_openings", "Times that a breaker opened, by why.",
            ["deployment", "reason"], registry=r,
        )  # fmt: skip
        self.cooldowns = Counter(
            "pointsman_deployment_cooldowns", "Times that a deployment was left alone because it "
            "asked for it.", ["deployment"], registry=r,
        )  # fmt: skip
        self.retries = Counter(
            "pointsman_retries", "Times that a request asked a deployment again, or did not for "
            "want of budget.", ["deployment", "result"], registry=r,
        )  # fmt: skip
        self.hedges = Counter(
            "pointsman_hedges", "Second attempts beside one that was late, by what came of them.",
            ["route", "result"], registry=r,
        )  # fmt: skip
        self.queued = Gauge(
            "pointsman_requests_queued", "Requests that wait for their turn.",
            registry=r, multiprocess_mode="livesum",
        )  # fmt: skip
        self.shed = Counter(
            "pointsman_shed_requests", "Requests refused because too many were being served.",
            ["reason"], registry=r,
        )  # fmt: skip

    # --- recording ---------------------------------------------------------------------------

    def settle(self, record: Record) -> None:
        """Count one finished request."""
        route, model = record.route, record.model or "none"
        code = BROKEN if record.outcome in _BROKEN_OUTCOMES else clamped(record.status)
        self._child(self.requests, route, model, code, record.decision).inc()
        self._child(self.duration, route).observe(record.duration_seconds)
        if record.overhead_seconds is not None:
            self._child(self.overhead, route).observe(record.overhead_seconds)
        if record.first_token_seconds is not None:
            self._child(self.first_token, model).observe(record.first_token_seconds)
        if record.cache is not None:
            self._child(self.cache_requests, route, record.cache.result).inc()
        for attempt in record.attempts:
            self._child(self.attempts, attempt.upstream, attempt.model, attempt.outcome).inc()
            self._child(self.upstream_duration, attempt.upstream).observe(attempt.seconds)
            if attempt.usage_fault is not None:
                self._child(self.senseless, attempt.model).inc()
            if attempt.usage is not None and not attempt.estimated:
                self._count_tokens(attempt.model, attempt.usage)
        self._count_money(record)

    def _count_tokens(self, model: str, usage: Usage) -> None:
        counts = (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("cache_write_1h", usage.cache_write_1h_tokens),
            ("audio_input", usage.audio_input_tokens),
            ("audio_output", usage.audio_output_tokens),
            ("image_input", usage.image_input_tokens),
            ("image_output", usage.image_output_tokens),
        )
        for kind, count in counts:
            if count:
                self._child(self.tokens, model, kind).inc(count)

    def _count_money(self, record: Record) -> None:
        if record.cost is not None:
            for attempt in record.attempts:
                # What failed is booked to the request's route, and to the model that was called.
                if attempt.cost or (attempt.cost == 0 and attempt.model == record.model):
                    dollars = attempt.cost / NANO_PER_DOLLAR
                    self._child(self.cost, record.route, attempt.model).inc(dollars)
        elif unknown := [each.model for each in record.attempts if each.cost is None]:
            self._child(self.unpriced, unknown[0]).inc()
        if record.cost_estimated:
            estimated = next(each.model for each in record.attempts if each.estimated)
            self._child(self.estimated, estimated).inc()
        saved = record.saved
        if saved is not None and record.baseline_cost is not None:
            baseline = record.baseline_cost / NANO_PER_DOLLAR
            self._child(self.baseline_cost, record.route).inc(baseline)
            side = self.saved if saved >= 0 else self.overspent
            self._child(side, record.route).inc(abs(saved) / NANO_PER_DOLLAR)

    def decided(self, record: Record, novelty: float | None) -> None:
        """Count one decision of a route."""
        self._child(self.decisions, record.route, record.decision, record.reason).inc()
        if record.speed != "none":
            self._child(self.predictions, record.route, record.speed).inc()
        self._child(self.decide, record.route).observe(record.decide_seconds)
        if novelty is not None:
            self._child(self.novel, record.route).observe(novelty)

    def looked_up(self, *, hit: bool) -> None:
        """Count one look-up of a prompt's vector."""
        self._child(self.encoder_cache, "hit" if hit else "miss").inc()

    def encoded(self, seconds: float) -> None:
        """Count one run of the encoder."""
        self.encode.observe(seconds)

    def ledger_failed(self, kind: str) -> None:
        """Count a failure of the ledger's `journal` or `database`, an entry `rejected`, a `fault`
        of ours."""
        self._child(self.ledger_errors, kind).inc()

    def limit_refused(self, scope: str, kind: str) -> None:
        """Count one request refused by a limit."""
        self._child(self.refusals, scope, kind).inc()

    def budgets_low(self, scopes: Iterable[str]) -> None:
        """Count the budgets that one reply warns of."""
        for scope in scopes:
            self._child(self.low_budgets, scope).inc()

    def cache_holds(self, entries: int, size: int) -> None:
        """Note how many answers are kept, and their bytes."""
        self.cache_entries.set(entries)
        self.cache_bytes.set(size)

    def redis_is_away(self, away: bool) -> None:
        """Note that Redis went or came back."""
        self.redis_away.set(away)

    def config_taken(self, digest: str, at: float, former: str | None = None) -> None:
        """Note that a configuration serves now, or was found to serve already."""
        if former is not None and former != digest:
            self.config.labels(former[:12]).set(0)
            if not _multiprocess():  # where several workers share them, labels can't be removed
                self.config.remove(former[:12])
        self.config.labels(digest[:12]).set(1)
        self.config_ok.set(1)
        self.config_loaded.set(at)

    def config_refused(self) -> None:
        """Note that one was refused."""
        self.config_ok.set(0)

    def deployment_is(self, name: str, state: str) -> None:
        """Note the state of a deployment's breaker."""
        self._child(self.deployment_state, name).set(_STATES[state])

    def deployment_gone(self, name: str) -> None:
        """Tell no more of one that was taken out of the configuration."""
        self.deployment_is(name, "closed")
        if not _multiprocess():  # where several workers share them, labels can't be removed
            self.deployment_state.remove(name)
            self._child.cache_clear()

    def deployment_left(self, name: str, event: str, reason: str) -> None:
        """Count a breaker that opens, or a cooldown that begins."""
        if event == "open":
            self._child(self.openings, name, reason).inc()
        else:
            self._child(self.cooldowns, name).inc()

    def retried(self, name: str, *, sent: bool) -> None:
        """Count one retry, sent or not for want of budget."""
        self._child(self.retries, name, "sent" if sent else "over_budget").inc()

    def hedged(self, route: str, result: str) -> None:
        """Count one hedge, sent or not."""
        self._child(self.hedges, route, result).inc()

    def close(self) -> None:
        """Take this process out of the sums of what is happening now."""
        if _multiprocess():
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]

    def render(self) -> bytes:
        """The exposition text; with several workers, of all of them."""
        if _multiprocess():
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self.registry)
