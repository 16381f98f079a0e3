"""`GET /v1/models` and `/v1/models/{name}`: routes first, then the models behind them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request

from app.accounting.caller import Caller
from app.api.access import CALLER
from app.api.serving import Serving
from app.routing.names import Names


def doors(serving: Serving) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Routes and models that the caller's `model` may name")
    async def models(request: Request) -> dict[str, Any]:
        caller: Caller = request.scope[CALLER]
        names = serving.pipeline.names
        mine = [card for name, card in _cards(names).items() if names.permits(caller, name)]
        return {"object": "list", "data": mine}

    @router.get("/v1/models/{name:path}", summary="One of them")
    async def model(request: Request, name: str) -> dict[str, Any]:
        names = serving.pipeline.names
        cards = _cards(names)
        target = names.resolve(name, request.scope[CALLER])  # raises with the nearest name
        return cards[name if name in cards else target.name]

    return router


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
            deployments=[
                {"deployment": each.name, "upstream": each.upstream, "region": each.region}
                for each in model.deployments
            ],
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
