"""The first dashboard: what is spent, on what, and what routing saved."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import Panel, Query, dashboard, stat
from deploy.grafana.queries import (
    ANY_IS_BAD,
    BASELINE,
    BOTH,
    CACHED,
    COST,
    IN_ROUTE,
    MODEL,
    NET,
    OF_MODEL,
    REQUESTS,
    ROUTE,
    SPENT,
    TOKENS,
    grown,
    rate,
)


def cost() -> dict[str, Any]:
    """What is spent, on what, and what routing saved."""
    return dashboard(
        "pointsman-cost",
        "Pointsman: cost",
        [ROUTE, MODEL],
        [
            stat("Spent", "Cost of all attempts.", SPENT, "currencyUSD"),
            stat(
                "Saved",
                "Against each route's baseline model, net: where the choice was dearer is taken "
                "off. Of the chosen routes, all models.",
                NET,
                "currencyUSD",
                thresholds=((None, "red"), (0, "green")),
            ),
            stat(
                "Share saved",
                "Saved, of what the baseline models would have cost.",
                f"{NET} / ({BASELINE} > 0)",
                "percentunit",
                thresholds=((None, "red"), (0, "green")),
            ),
            stat("Requests", "Answered to clients, errors too.", REQUESTS),
            stat(
                "Cost of 1,000 requests",
                "What is spent, by what was asked.",
                f"1000 * {SPENT} / ({REQUESTS} > 0)",
                "currencyUSD",
            ),
            stat(
                "Of unknown cost",
                "Requests whose price or usage is missing: they are in no figure here.",
                grown("pointsman_unpriced_requests_total", OF_MODEL),
                thresholds=ANY_IS_BAD,
            ),
            Panel(
                "Spending by model",
                "US dollars an hour; failed attempts are booked to the model that was called.",
                [Query(f"{rate(COST, BOTH, 'model')} * 3600", "{{model}}")],
                unit="currencyUSD",
                stacked=True,
            ),
            Panel(
                "Spending by route",
                "US dollars an hour. `pinned`: the client named the model.",
                [Query(f"{rate(COST, BOTH, 'route')} * 3600", "{{route}}")],
                unit="currencyUSD",
                stacked=True,
            ),
            Panel(
                "Spent, and at the baseline",
                "US dollars an hour of the chosen routes. Who names a model has no baseline.",
                [
                    Query(
                        rate(COST, f'{IN_ROUTE},route!~"pinned|none"') + " * 3600",
                        "spent",
                    ),
                    Query(
                        rate("pointsman_baseline_cost_dollars_total", IN_ROUTE) + " * 3600",
                        "at the baseline",
                    ),
                ],
                unit="currencyUSD",
            ),
            Panel(
                "Share saved by route",
                "Over the last hour, net. Below zero the route costs more than its baseline.",
                [Query(f"pointsman:saving:ratio1h{{{IN_ROUTE}}}", "{{route}}")],
                unit="percentunit",
            ),
            Panel(
                "Where the money went",
                "Spent by model over the time shown.",
                [Query(f"sum by (model) (increase({COST}{{{BOTH}}}[$__range]))", "{{model}}")],
                kind="piechart",
                unit="currencyUSD",
                width=8,
            ),
            Panel(
                "Tokens",
                "As upstreams reported them, a second. `input` includes `cached`, `output` "
                "includes `reasoning`.",
                [Query(rate(TOKENS, OF_MODEL, "kind"), "{{kind}}")],
                width=8,
            ),
            Panel(
                "Input from the upstream's cache",
                "Share of input tokens that were read from the prompt cache.",
                [
                    Query(
                        rate(TOKENS, f'{OF_MODEL},kind="cached"', "model")
                        + " / "
                        + rate(TOKENS, f'{OF_MODEL},kind="input"', "model"),
                        "{{model}}",
                    )
                ],
                unit="percentunit",
                width=8,
            ),
            Panel(
                "Answer cache",
                "Requests a second to gateways that cache answers: found (`hit`), looked for in "
                "vain (`miss`), or not looked for (`bypass`).",
                [Query(rate(CACHED, IN_ROUTE, "result"), "{{result}}")],
                unit="reqps",
                stacked=True,
                width=8,
            ),
            Panel(
                "Answered from the cache",
                "Share of the requests that were looked for. What it spares is in the savings.",
                [
                    Query(
                        rate(CACHED, f'{IN_ROUTE},result="hit"', "route")
                        + " / "
                        + rate(CACHED, f'{IN_ROUTE},result=~"hit|miss"', "route"),
                        "{{route}}",
                    )
                ],
                unit="percentunit",
                width=8,
            ),
            Panel(
                "Answers kept",
                "Their size in the memory of each gateway.",
                [Query("sum by (instance) (pointsman_cache_bytes)", "{{instance}}")],
                unit="bytes",
                width=8,
            ),
            Panel(
                "Costs that are not certain",
                "Requests a second: `unknown` are in no figure, `estimated` broke off before their "
                "usage was told, `senseless` reported a usage that could not be.",
                [
                    Query(
                        rate("pointsman_unpriced_requests_total", OF_MODEL, "model"),
                        "unknown {{model}}",
                    ),
                    Query(
                        rate("pointsman_estimated_requests_total", OF_MODEL, "model"),
                        "estimated {{model}}",
                    ),
                    Query(
                        rate("pointsman_senseless_usage_total", OF_MODEL, "model"),
                        "senseless {{model}}",
                    ),
                ],
            ),
            Panel(
                "Budgets",
                "A second: refusals by a budget, and replies that warn of one.",
                [
                    Query(
                        rate("pointsman_limit_refusals_total", 'kind="budget"', "scope"),
                        "refused, {{scope}}",
                    ),
                    Query(rate("pointsman_budget_warnings_total", "", "scope"), "low, {{scope}}"),
                ],
            ),
        ],
    )
