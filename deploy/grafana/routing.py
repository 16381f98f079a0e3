"""The third dashboard: how requests are routed, and whether the router knows its prompts."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import Panel, Query, dashboard, quantiles, stat
from deploy.grafana.queries import (
    BASELINE,
    DECISIONS,
    IN_ROUTE,
    NET,
    PREDICTIONS,
    ROUTE,
    grown,
    rate,
)


def routing() -> dict[str, Any]:
    """How requests are routed, and whether the router knows what it is asked."""
    requests = "pointsman_requests_total"
    served = f'{IN_ROUTE},model!="none"'
    return dashboard(
        "pointsman-routing",
        "Pointsman: routing quality",
        [ROUTE],
        [
            stat(
                "Decisions",
                "Of routes; requests that name a model decide nothing.",
                grown(DECISIONS, IN_ROUTE),
            ),
            stat(
                "Predicted",
                "Share of decisions that a router predicted. The rest had no choice, or no router.",
                f"{grown(PREDICTIONS, IN_ROUTE)} / ({grown(DECISIONS, IN_ROUTE)} > 0)",
                "percentunit",
            ),
            stat(
                "Encoded",
                "Share of predictions for which the encoder ran.",
                grown(PREDICTIONS, f'{IN_ROUTE},speed="encoded"')
                + f" / ({grown(PREDICTIONS, IN_ROUTE)} > 0)",
                "percentunit",
            ),
            stat(
                "Novelty",
                "Mean of how unlike the router's outcomes prompts are: 0 familiar, 1 unlike "
                "anything seen. High: the router knows little here and takes the strong model.",
                f"{grown('pointsman_novelty_ratio_sum', IN_ROUTE)}"
                f" / ({grown('pointsman_novelty_ratio_count', IN_ROUTE)} > 0)",
                "percentunit",
                thresholds=((None, "green"), (0.5, "orange"), (0.75, "red")),
            ),
            stat(
                "Deciding, p95",
                "From the end of a request's body.",
                "histogram_quantile(0.95, sum by (le) "
                f"(increase(pointsman_decision_seconds_bucket{{{IN_ROUTE}}}[$__range])))",
                "s",
            ),
            stat(
                "Share saved",
                "Of what the baseline models would have cost, net.",
                f"{NET} / ({BASELINE} > 0)",
                "percentunit",
                thresholds=((None, "red"), (0, "green")),
            ),
            Panel(
                "Who served",
                "Share of each model among answered requests of the chosen routes.",
                [
                    Query(
                        rate(requests, served, "model")
                        + " / ignoring(model) group_left "
                        + rate(requests, served),
                        "{{model}}",
                    )
                ],
                unit="percentunit",
                stacked=True,
            ),
            Panel(
                "Why",
                "Decisions a second by reason; docs/api.md explains the words.",
                [Query(rate(DECISIONS, IN_ROUTE, "reason"), "{{reason}}")],
                stacked=True,
            ),
            Panel(
                "Novelty by route",
                "Mean over the last hour. An alert fires above 0.75.",
                [Query(f"pointsman:novelty:mean1h{{{IN_ROUTE}}}", "{{route}}")],
                unit="percentunit",
            ),
            Panel(
                "Novelty, spread",
                "Prompts by how unlike the router's outcomes they are.",
                [
                    Query(
                        "sum by (le) (increase("
                        f"pointsman_novelty_ratio_bucket{{{IN_ROUTE}}}[$__rate_interval]))",
                        "{{le}}",
                    )
                ],
                kind="heatmap",
            ),
            Panel(
                "What was read",
                "Predictions a second: from the words alone, from a vector remembered, or encoded.",
                [Query(rate(PREDICTIONS, IN_ROUTE, "speed"), "{{speed}}")],
                stacked=True,
                width=8,
            ),
            quantiles(
                "Time to decide",
                "Encoding included.",
                "pointsman_decision_seconds",
                IN_ROUTE,
                8,
            ),
            quantiles("Time to encode", "One prompt.", "pointsman_encode_seconds", "", 8),
            Panel(
                "Vectors remembered",
                "Share of look-ups that the encoder's cache could answer.",
                [
                    Query(
                        rate("pointsman_encoder_cache_total", 'result="hit"')
                        + " / "
                        + rate("pointsman_encoder_cache_total", ""),
                        "hits",
                    )
                ],
                unit="percentunit",
            ),
            Panel(
                "Saved by route",
                "US dollars an hour over the last hour, net.",
                [
                    Query(
                        f"pointsman:saved_dollars_per_hour:rate1h{{{IN_ROUTE}}}",
                        "{{route}}",
                    )
                ],
                unit="currencyUSD",
            ),
        ],
    )
