"""`GET /admin/deployments`: how each deployment is, as this process knows it. For keys with the
scope `admin`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from time import time
from typing import Any

from fastapi import APIRouter, Depends

from app.api.access import Access
from app.catalog.model import Model
from app.delivery.deployment import DeploymentState
from app.delivery.deployments import Deployments


def doors(access: Access, deployments: Deployments) -> APIRouter:
    router = APIRouter(tags=["deployments"], dependencies=[Depends(access.admin)])

    @router.get("/admin/deployments", summary="The state of each deployment in this process")
    async def states() -> dict[str, Any]:
        told = [_told(deployments, *each) for each in deployments.by_model()]
        return {"object": "list", "process": os.getpid(), "data": told}

    return router


def _told(deployments: Deployments, model: Model, state: DeploymentState) -> dict[str, Any]:
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
