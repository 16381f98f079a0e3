"""`POST /v1/decision`: the decision the chat door would take on the same body, explained."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api.access import CALLER
from app.api.openai.chat import read_request
from app.api.serving import Serving
from app.api.wire import ClientGone
from app.telemetry.metrics import CLIENT_CLOSED

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["model", "messages"]},
                "example": {
                    "model": "auto",
                    "messages": [{"role": "user", "content": "Prove that 7 divides n^7 - n."}],
                },
            }
        },
    }
}


def doors(serving: Serving) -> APIRouter:
    router = APIRouter(tags=["decision"])

    @router.post(
        "/v1/decision",
        summary="Explain how a chat request would be routed, without calling a model",
        openapi_extra=_BODY,
        response_model=None,
    )
    async def decision(
        request: Request, neighbours: Annotated[int, Query(ge=0, le=50)] = 5
    ) -> dict[str, Any] | Response:
        active = serving.active
        server = active.config.server
        try:
            chat = await read_request(
                request.scope,
                request.receive,
                server,
                perf_counter(),
                reads=active.pipeline.reads,
            )
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED)  # nobody reads it
        return await active.pipeline.explain(chat, neighbours, request.scope[CALLER])

    return router
