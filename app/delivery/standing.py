"""How each deployment stands, as this process knows it, for people to look at."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time
from typing import Any

from app.catalog.model import Model
from app.delivery.deployment import DeploymentState
from app.delivery.deployments import Deployments


def standings(deployments: Deployments) -> list[dict[str, Any]]:
    """Of all deployments, model by model."""
    return [standing(deployments, *each) for each in deployments.by_model()]


def standing(deployments: Deployments, model: Model, state: DeploymentState) -> dict[str, Any]:
    """Times are ISO 8601, or seconds where the name says so; null is what is not known."""
    deployment, breaker = state.deployment, state.breaker
    counts = breaker.window.counts()
    now = deployments.clock()

    def moment(until: float | None) -> str | None:
        if until is None or until <= now:
            return None
        return datetime.fromtimestamp(time() + until - now, UTC).isoformat(timespec="milliseconds")

    return {
        "deployment": state.name,
        "model": model.name,
        "upstream": deployment.upstream,
        "region": deployment.region,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "state": breaker.state,
        "open_until": moment(breaker.until),
        "cooldown_until": moment(state.cooldown_until),
        "in_flight": state.in_flight,
        "requests": counts.total,
        "error_ratio": round(counts.error_ratio, 4),
        "slow_ratio": round(counts.slow_ratio, 4),
        "first_token_seconds": state.latency(stream=True),
        "answer_seconds": state.latency(stream=False),
        "retries_left": int(state.budget.left),
        "hedges_left": int(state.hedges.left),
    }
