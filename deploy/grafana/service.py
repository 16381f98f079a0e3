"""The second dashboard: is anything slow or failing."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import Panel, Query, dashboard, quantiles, stat
from deploy.grafana.queries import (
    ATTEMPTS,
    BAD_SHARE,
    BOTH,
    IN_ROUTE,
    MODEL,
    OF_MODEL,
    REQUESTS,
    ROUTE,
    TO_UPSTREAM,
    UPSTREAM,
    grown,
    rate,
)


def service() -> dict[str, Any]:
    """Is anything slow or failing."""
    failed = 'code=~"5..|broken"'
    slowest = "pointsman_time_to_first_token_seconds"
    return dashboard(
        "pointsman-service",
        "Pointsman: latency and reliability",
        [ROUTE, MODEL, UPSTREAM],
        [
            stat("Gateways", "That answer Prometheus.", 'sum(up{job="pointsman"})'),
            stat(
                "Requests a second",
                "Over the last minutes.",
                f"sum(rate(pointsman_requests_total{{{BOTH}}}[5m]))",
                "reqps",
            ),
            stat(
                "Errors",
                "Share of requests that end in a 5xx or in a broken stream.",
                f"{grown('pointsman_requests_total', f'{BOTH},{failed}')} / ({REQUESTS} > 0)",
                "percentunit",
                thresholds=BAD_SHARE,
            ),
            stat(
                "Attempts a request",
                "Calls to upstreams for each request; above 1 where something fell back.",
                f"{grown(ATTEMPTS, OF_MODEL)} / ({REQUESTS} > 0)",
            ),
            stat(
                "Overhead, p95",
                "Time in the gateway itself.",
                "histogram_quantile(0.95, sum by (le) "
                f"(increase(pointsman_overhead_seconds_bucket{{{IN_ROUTE}}}[$__range])))",
                "s",
            ),
            stat(
                "Alerts",
                "Of Pointsman's, firing now.",
                'count(ALERTS{alertname=~"Pointsman.*",alertstate="firing"}) or vector(0)',
                thresholds=((None, "green"), (1, "red")),
            ),
            Panel(
                "Requests by code",
                "A second. 499: the client went away. `broken`: a stream that ended in an error.",
                [Query(rate("pointsman_requests_total", BOTH, "code"), "{{code}}")],
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "Errors by route",
                "Share of the last five minutes' requests.",
                [Query(f"pointsman:errors:ratio5m{{{IN_ROUTE}}}", "{{route}}")],
                unit="percentunit",
            ),
            quantiles(
                "Duration",
                "From a request's arrival to the end of its answer.",
                "pointsman_request_duration_seconds",
                IN_ROUTE,
                8,
            ),
            quantiles(
                "Time to first token",
                "Of streams.",
                slowest,
                OF_MODEL,
                8,
            ),
            quantiles(
                "Overhead",
                "Time in the gateway itself, encoding included.",
                "pointsman_overhead_seconds",
                IN_ROUTE,
                8,
            ),
            Panel(
                "Time to first token by model, p95",
                "Of streams.",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (model, le) "
                        f"(rate({slowest}_bucket{{{OF_MODEL}}}[$__rate_interval])))",
                        "{{model}}",
                    )
                ],
                unit="s",
                width=8,
            ),
            Panel(
                "Upstreams, p95",
                "An attempt, to its end; of streams to the first event.",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (upstream, le) (rate("
                        f"pointsman_upstream_duration_seconds_bucket{{{TO_UPSTREAM}}}"
                        "[$__rate_interval])))",
                        "{{upstream}}",
                    )
                ],
                unit="s",
                width=8,
            ),
            Panel(
                "Upstreams, failing",
                "Share of the last five minutes' calls.",
                [
                    Query(
                        f"pointsman:upstream_failures:ratio5m{{{TO_UPSTREAM}}}",
                        "{{upstream}}",
                    )
                ],
                unit="percentunit",
                width=8,
            ),
            Panel(
                "Deployments",
                "Their breakers, of the worst gateway. One that is not asked any more stays as it "
                "was last met.",
                [Query("max by (deployment) (pointsman_deployment_state)", "{{deployment}}")],
                kind="state-timeline",
                words=((0, "closed", "green"), (1, "half open", "orange"), (2, "open", "red")),
                width=8,
            ),
            Panel(
                "Breakers that opened, and cooldowns",
                "A second, by deployment. `probe`: it had not recovered; `cooldown`: it asked to "
                "be left alone.",
                [
                    Query(
                        rate("pointsman_deployment_openings_total", "", "deployment, reason"),
                        "{{deployment}} {{reason}}",
                    ),
                    Query(
                        rate("pointsman_deployment_cooldowns_total", "", "deployment"),
                        "{{deployment}} cooldown",
                    ),
                ],
                width=8,
            ),
            Panel(
                "Retries and hedges",
                "A second. A retry asks the same deployment again; a hedge asks another beside one "
                "that is late. Many hedges that are `lost` are money for nothing.",
                [
                    Query(rate("pointsman_retries_total", "", "result"), "retry {{result}}"),
                    Query(rate("pointsman_hedges_total", IN_ROUTE, "result"), "hedge {{result}}"),
                ],
                width=8,
            ),
            Panel(
                "Attempts that did not succeed",
                "Calls to upstreams, a second, by how they ended.",
                [
                    Query(
                        rate(
                            ATTEMPTS,
                            f'{TO_UPSTREAM},{OF_MODEL},outcome!="ok"',
                            "upstream, outcome",
                        ),
                        "{{upstream}} {{outcome}}",
                    )
                ],
                stacked=True,
            ),
            Panel(
                "Refused by limits",
                "Requests a second.",
                [
                    Query(
                        rate("pointsman_limit_refusals_total", "", "scope, kind"),
                        "{{scope}} {{kind}}",
                    )
                ],
                stacked=True,
            ),
            Panel(
                "In flight and queued",
                "Requests being served now, and those that wait for their turn.",
                [
                    Query("sum by (instance) (pointsman_requests_in_flight)", "{{instance}}"),
                    Query("sum by (instance) (pointsman_requests_queued)", "queued, {{instance}}"),
                ],
            ),
            Panel(
                "Refused because too many were being served",
                "Requests a second: the queue was full, or too slow.",
                [
                    Query(
                        rate("pointsman_shed_requests_total", "", "instance, reason"),
                        "{{instance}} {{reason}}",
                    )
                ],
                stacked=True,
            ),
            Panel(
                "Ledger: waiting",
                "Settled requests that are not in the database yet, and for how long.",
                [
                    Query(
                        "sum by (instance) (pointsman_ledger_pending_records)",
                        "records, {{instance}}",
                    ),
                    Query(
                        "max by (instance) (pointsman_ledger_lag_seconds)",
                        "seconds, {{instance}}",
                    ),
                ],
                width=8,
            ),
            Panel(
                "Ledger and Redis: trouble",
                "Failures a second by kind, records lost a second, and gateways without Redis.",
                [
                    Query(rate("pointsman_ledger_errors_total", "", "kind"), "{{kind}}"),
                    Query(rate("pointsman_ledger_lost_records_total", ""), "lost"),
                    Query("sum(pointsman_redis_away)", "without Redis"),
                ],
                width=8,
            ),
            Panel(
                "Ledger: booked",
                "Records a second that the database took.",
                [Query(rate("pointsman_ledger_records_total", "", "instance"), "{{instance}}")],
                width=8,
            ),
            Panel(
                "Versions",
                "Gateways by version.",
                [Query("count by (version) (pointsman_build)", "{{version}}")],
            ),
            Panel(
                "Configurations",
                "Gateways by what they serve (the first digits of the file's SHA-256), and those "
                "that have refused a newer one.",
                [
                    Query("count by (hash) (pointsman_config == 1)", "{{hash}}"),
                    Query(
                        "count(pointsman_config_last_reload_successful == 0) or vector(0)",
                        "refused",
                    ),
                ],
            ),
        ],
    )
