"""`GET /admin/deployments`: how each deployment is, as this process knows it. For keys with the
scope `admin`."""

from __future__ import annotations

import os
from typing import Any

from fastapi import APIRouter, Depends

from app.api.access import Access
from app.delivery.deployments import Deployments
from app.delivery.standing import standings


def doors(access: Access, deployments: Deployments) -> APIRouter:
    router = APIRouter(tags=["deployments"], dependencies=[Depends(access.admin)])

    @router.get("/admin/deployments", summary="The state of each deployment in this process")
    async def states() -> dict[str, Any]:
        return {"object": "list", "process": os.getpid(), "data": standings(deployments)}

    return router
