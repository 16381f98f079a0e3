"""The PromQL that several panels share."""

from __future__ import annotations

from deploy.grafana.panels import Variable

ROUTE = Variable("route", "pointsman_requests_total")
MODEL = Variable("model", "pointsman_requests_total")
UPSTREAM = Variable("upstream", "pointsman_upstream_attempts_total")
IN_ROUTE = 'route=~"$route"'
OF_MODEL = 'model=~"$model"'
BOTH = f"{IN_ROUTE},{OF_MODEL}"
TO_UPSTREAM = 'upstream=~"$upstream"'
BAD_SHARE = ((None, "green"), (0.01, "orange"), (0.05, "red"))
ANY_IS_BAD = ((None, "green"), (1, "orange"))


def rate(series: str, where: str, by: str = "") -> str:
    """Events a second, summed over what is not named in `by`."""
    return f"sum by ({by}) (rate({series}{{{where}}}[$__rate_interval]))"


def grown(series: str, where: str) -> str:
    """By how much a counter grew over the time that is shown; 0 where there is no such series."""
    return f"(sum(increase({series}{{{where}}}[$__range])) or vector(0))"


COST = "pointsman_cost_dollars_total"
SPENT = grown(COST, BOTH)
NET = (
    f"({grown('pointsman_saved_dollars_total', IN_ROUTE)}"
    f" - {grown('pointsman_overspent_dollars_total', IN_ROUTE)})"
)
BASELINE = grown("pointsman_baseline_cost_dollars_total", IN_ROUTE)
REQUESTS = grown("pointsman_requests_total", BOTH)
TOKENS = "pointsman_tokens_total"
DECISIONS = "pointsman_decisions_total"
PREDICTIONS = "pointsman_predictions_total"
ATTEMPTS = "pointsman_upstream_attempts_total"
CACHED = "pointsman_cache_requests_total"
