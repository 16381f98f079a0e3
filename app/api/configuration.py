"""`/admin/config` and `/admin/reload`: which configuration serves, and taking the file anew. For
keys with the scope `admin`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from app.accounting.caller import Caller
from app.api.access import CALLER, Access
from app.api.serving import Active, Serving
from app.telemetry.logs import log

Reload = Callable[[], Awaitable[dict[str, Any]]]
"""Gives what there is to tell of it; raises ConfigRefused."""


def doors(access: Access, serving: Serving, reload: Reload) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["operations"], dependencies=[Depends(access.admin)])

    @router.get(
        "/config",
        summary="The configuration in service, as it is written, without its secrets",
        response_model=None,
    )
    async def config(request: Request, response: Response) -> dict[str, Any] | Response:
        active = serving.active
        mark = f'"{active.digest[:16]}.{active.version}"'
        headers = {"etag": mark, "cache-control": "no-store"}
        asked = request.headers.get("if-none-match", "")
        if mark in (each.strip().removeprefix("W/") for each in asked.split(",")):
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        return {**_told(active), "config": written(active)}

    @router.post("/reload", summary="Take the configuration file as it is now")
    async def reload_(request: Request) -> dict[str, Any]:
        caller: Caller = request.scope[CALLER]
        log.info("key %s asks for a reload", caller.key_id)
        told = await reload()
        return {**_told(serving.active), **told}

    return router


def _told(active: Active) -> dict[str, Any]:
    return {
        "file": active.file,
        "hash": active.digest,
        "version": active.version,
        "loaded_at": datetime.fromtimestamp(active.at, UTC).isoformat(timespec="milliseconds"),
        "process": os.getpid(),
    }


def written(active: Active) -> dict[str, Any]:
    """The keys that the file has, with their values; every secret is asterisks."""
    told: dict[str, Any] = active.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return told
