"""`GET /v1/models` and `/v1/models/{name}`: routes first, then the models behind them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request

from app.accounting.caller import Caller
from app.api.access import CALLER
from app.api.serving import Serving
from app.delivery.standing import standing
from app.routing.names import Names

_OF_DEPLOYMENTS = (
    "deployment", "upstream", "region", "state", "cooldown_until", "in_flight",
    "first_token_seconds", "answer_seconds",
)  # fmt: skip


def doors(serving: Serving) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Routes and models that the caller's `model` may name")
    async def models(request: Request) -> dict[str, Any]:
        caller: Caller = request.scope[CALLER]
        names = serving.pipeline.names
        mine = [card for name, card in _cards(names).items() if names.permits(caller, name)]
        return {"object": "list", "data": [_standing(card, serving) for card in mine]}

    @router.get("/v1/models/{name:path}", summary="One of them")
    async def model(request: Request, name: str) -> dict[str, Any]:
        names = serving.pipeline.names
        cards = _cards(names)
        target = names.resolve(name, request.scope[CALLER])  # raises with the nearest name
        return _standing(cards[name if name in cards else target.name], serving)

    return router


def _standing(card: dict[str, Any], serving: Serving) -> dict[str, Any]:
    """A model's card with where it is served, as that is now."""
    model = serving.pipeline.names.models.get(card["id"])
    if model is None or card["pointsman"]["kind"] != "model":
        return card
    deployments = serving.pipeline.deployments
    told = [standing(deployments, model, state) for state in deployments.of(model)]
    served = [{name: one[name] for name in _OF_DEPLOYMENTS} for one in told]
    return {**card, "pointsman": {**card["pointsman"], "deployments": served}}


@lru_cache(maxsize=1)
def _cards(names: Names) -> dict[str, dict[str, Any]]:
    routes = {
        name: _card(name, "route", candidates=[model.name for model in route.candidates])
        for name, route in names.routes.items()
    }
    models = {
        name: _card(
            name,
            "model",
            upstream=model.upstream,
            context_window=model.context_window,
            max_output=model.max_output,
            capabilities=None if model.capabilities is None else sorted(model.capabilities),
        )
        for name, model in names.models.items()
    }
    return routes | models


def _card(name: str, kind: str, **facts: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "pointsman",
        "pointsman": {"kind": kind, **facts},
    }
