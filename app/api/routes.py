"""The table of doors, and the FastAPI application that holds them.

The hot doors are plain ASGI endpoints at the front of the table; FastAPI serves and documents the
rest. Whatever goes wrong is answered in OpenAI's envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.accounting.caller import ANONYMOUS
from app.api import deployments, probes, wire
from app.api.access import CALLER, Access
from app.api.openai import decision, models
from app.api.openai.chat import ChatDoor
from app.api.serving import Serving
from app.delivery.gate import Gate
from app.errors import (
    CallerError,
    GatewayError,
    GatewayFault,
    InvalidField,
    MethodNotAllowed,
    UnknownPath,
)
from app.telemetry.logs import CHAT_PATH as CHAT
from app.telemetry.logs import log, other_line

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]


class Gateway(FastAPI):
    """A FastAPI application with hot doors in front, which its middleware would slow down."""

    hot: Mapping[tuple[str, str], ASGIApp]
    """ASGI applications by method and path."""
    access: Access
    access_log = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        door = self.hot.get((scope["method"], scope["path"]))
        if door is not None:
            await door(scope, receive, send)
        else:
            request_id = wire.new_request_id()
            started, status = perf_counter(), 499

            async def answer(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    named = (b"x-pointsman-request-id", request_id.encode())
                    message = {**message, "headers": [*message["headers"], named]}
                await send(message)

            try:
                await self._serve(scope, receive, answer)
            finally:
                if self.access_log:
                    took = perf_counter() - started
                    other_line(request_id, scope["method"], scope["path"], status, took)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER] = ANONYMOUS
        if not self.access.is_open(scope):
            try:
                scope[CALLER] = await self.access.caller(scope)
            except GatewayError as error:
                await wire.send_reply(send, wire.refusal(error))
                return
        await super().__call__(scope, receive, send)


def application(
    serving: Serving, access: Access, gate: Gate, lifespan: Lifespan | None = None
) -> Gateway:
    """Every door of the gateway."""
    app = Gateway(
        title="Pointsman",
        version=__version__,
        description="An OpenAI-compatible gateway that sends each request to the cheapest model "
        "capable of it.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.access = access
    chat = ChatDoor(serving, access, gate)
    app.hot = {("POST", CHAT): chat}
    # Also in the table, for 405 on other methods and for who mounts the application.
    app.router.routes.append(Route(CHAT, chat, methods=["POST"]))
    app.include_router(models.doors(serving))
    app.include_router(decision.doors(serving))
    app.include_router(deployments.doors(access, serving.pipeline.deployments))
    app.include_router(probes.doors(serving, access))
    app.add_exception_handler(GatewayError, _refused)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return app


def _response(error: GatewayError) -> Response:
    reply = wire.refusal(error)
    return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)


async def _refused(request: Request, error: Any) -> Response:
    return _response(error)


async def _http_error(request: Request, error: Any) -> Response:
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            message = f"No such path: {path}. See docs/api.md for the doors."
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


async def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    field = ".".join(str(step) for step in first["loc"][1:]) or None
    return _response(InvalidField(f"`{field}`: {first['msg']}.", param=field))


async def _failed(request: Request, error: Exception) -> Response:
    log.exception("%s failed", request.url.path[:200], exc_info=error)
    return _response(GatewayFault("Internal error."))
