"""`/dashboard`: the page and its files, which hold no data, and the doors of its data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from app.dashboard.assets import PREFIX, Assets
from app.dashboard.evidence import Evidence
from app.dashboard.source import Source
from app.dashboard.span import Range, Span, Wanted
from app.delivery.deployments import Deployments
from app.delivery.standing import standings
from app.errors import UnknownRequest

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing foreign, and nothing inline. `data:` is how the chart library draws what it exports."""
_PAGE = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
_FILE = {
    "cache-control": "public, max-age=31536000, immutable",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
}
_DATA = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_NAME = Annotated[str | None, Query(max_length=200)]


def doors(
    source: Source,
    guard: Callable[[Request], Any],
    evidence: Callable[[], Evidence],
    deployments: Deployments,
) -> APIRouter:
    """`guard` raises for who may not see data; `evidence` is asked each time, and knows whether it
    is shown text."""
    router = APIRouter()
    data = APIRouter(prefix="/dashboard/data", tags=["dashboard"], dependencies=[Depends(guard)])
    assets = Assets()

    @router.get("/dashboard", include_in_schema=False)
    async def page() -> Response:
        source.warm()
        assets.warm()
        return Response(assets.page, headers=_PAGE, media_type="text/html; charset=utf-8")

    @router.get(PREFIX + "/{version}/{name}", include_in_schema=False)
    async def file(request: Request, version: str, name: str) -> Response:
        asset = await assets.get(version, name)
        packs = "gzip" in request.headers.get("accept-encoding", "")
        headers = {**_FILE, "content-type": asset.content_type}
        if packs:
            headers["content-encoding"] = "gzip"
        return Response(asset.packed if packs else asset.plain, headers=headers)

    @data.get("/overview", summary="Sums, series and percentiles of a span")
    async def overview(wanted: Annotated[Wanted, Depends(_wanted)]) -> Response:
        async with source.ledger() as database:
            from app.dashboard.overview import overview

            return _json(await overview(database, wanted))

    @data.get("/deployments", summary="How each deployment stands now, in this process")
    async def standing() -> Response:
        return _json({"data": standings(deployments)})

    @data.get("/tradeoff", summary="Predicted quality against expected cost, and what was chosen")
    async def tradeoff(wanted: Annotated[Wanted, Depends(_wanted)]) -> Response:
        async with source.ledger() as database:
            from app.dashboard.tradeoff import tradeoff

            return _json(await tradeoff(database, wanted))

    @data.get("/decisions", summary="The last decisions, the newest first")
    async def decisions(
        wanted: Annotated[Wanted, Depends(_wanted)],
        limit: Annotated[int, Query(ge=1, le=200)] = 25,
        before_us: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
        before_id: _NAME = None,
    ) -> Response:
        before = None if before_us is None else (before_us, before_id or "")
        async with source.ledger() as database:
            from app.dashboard.decisions import decisions

            return _json({"data": await decisions(database, wanted, limit, before)})

    @data.get("/decisions/{request_id}", summary="All that the ledger keeps of one")
    async def decision(request_id: str) -> Response:
        async with source.ledger() as database:
            from app.dashboard.decisions import decision

            found = await decision(database, request_id, evidence())
        if found is None:
            raise UnknownRequest("There is no such request in the ledger, or no longer.")
        return _json(found)

    @data.get("/export/{what}.csv", summary="The sums or the requests of a span, as CSV")
    async def export(
        what: Literal["sums", "requests"], wanted: Annotated[Wanted, Depends(_wanted)]
    ) -> Response:
        lines = _exported(source, what, wanted)
        # The first is drawn here, so that what can't be read is answered as an error.
        first = await anext(lines)
        headers = {**_DATA, "content-disposition": f'attachment; filename="pointsman-{what}.csv"'}
        return StreamingResponse(
            _after(first, lines), headers=headers, media_type="text/csv; charset=utf-8"
        )

    router.include_router(data)
    return router


def _wanted(
    span: Annotated[Range, Query(alias="range")] = "24h", route: _NAME = None, model: _NAME = None
) -> Wanted:
    return Wanted(Span.ending(span, time()), route or None, model or None)


async def _exported(source: Source, what: str, wanted: Wanted) -> AsyncIterator[str]:
    async with source.ledger() as database:
        from app.dashboard import export

        made = export.sums if what == "sums" else export.requests
        async for lines in made(database, wanted):
            yield lines


async def _after(first: str, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for more in lines:
        yield more


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), headers=_DATA, media_type="application/json")
