"""Probes and metrics: is the process alive, is it ready to serve, what has it counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from app import __version__
from app.api.access import Access
from app.api.serving import Serving
from app.telemetry.metrics import CONTENT_TYPE


def doors(serving: Serving, access: Access) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/livez", summary="The process runs and its event loop turns")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    # The server listens only once everything is loaded, so whoever gets through is served.
    @router.get("/readyz", summary="Requests are served")
    async def readyz(response: Response) -> dict[str, Any]:
        if serving.pipeline.drain.draining:
            response.status_code = 503  # requests are still served; new ones belong elsewhere
            return {"status": "draining", "version": __version__}
        # What is away is told of and changes nothing: requests are served all the same.
        return {"status": "ready", "version": __version__, **serving.pipeline.readiness()}

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        dependencies=[Depends(access.metrics)],
    )
    def exposition() -> Response:
        # A plain function: rendering takes milliseconds, so it runs in a thread.
        return Response(serving.pipeline.metrics.render(), media_type=CONTENT_TYPE)

    return router
