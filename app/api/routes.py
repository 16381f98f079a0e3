"""The table of doors, and the FastAPI application that holds them.

The hot doors are plain ASGI endpoints at the front of the table; FastAPI serves and documents the
rest. Whatever goes wrong is answered in OpenAI's envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route

from app import __version__
from app.api import probes, wire
from app.api.openai import decision, models
from app.api.openai.chat import ChatDoor
from app.config.schema import Server
from app.errors import (
    CallerError,
    GatewayError,
    GatewayFault,
    InvalidField,
    MethodNotAllowed,
    UnknownPath,
)
from app.pipeline import Pipeline
from app.telemetry.logs import log

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]


def application(pipeline: Pipeline, limits: Server, lifespan: Lifespan | None = None) -> FastAPI:
    """Every door of the gateway."""
    app = FastAPI(
        title="Pointsman",
        version=__version__,
        description="An OpenAI-compatible gateway that sends each request to the cheapest model "
        "capable of it.",
        lifespan=lifespan,
    )
    app.router.routes.insert(
        0, Route("/v1/chat/completions", ChatDoor(pipeline, limits), methods=["POST"])
    )
    app.include_router(models.doors(pipeline.names))
    app.include_router(decision.doors(pipeline, limits))
    app.include_router(probes.doors(pipeline.metrics))
    app.add_exception_handler(GatewayError, _refused)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return app


def _response(error: GatewayError) -> Response:
    reply = wire.refusal(error, [("x-pointsman-request-id", wire.new_request_id())])
    return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException | StarletteHTTPException)
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            message = f"No such path: {path}. The doors are listed at /docs."
            return _response(UnknownPath(message))
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            return _response(
                MethodNotAllowed(
                    f"{request.method[:16]} is not allowed on {path}; allowed: {allowed}.",
                    headers=[("allow", allowed)],
                )
            )
    fault = CallerError(str(error.detail))
    fault.status = error.status_code
    return _response(fault)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(step) for step in first["loc"][1:]) or None
    return _response(InvalidField(f"`{field}`: {first['msg']}.", param=field))


async def _failed(request: Request, error: Exception) -> Response:
    log.exception("%s failed", request.url.path[:200], exc_info=error)
    return _response(GatewayFault("Internal error."))
