"""`/admin/keys`: make, list, change, replace and revoke keys. For keys with the scope `admin`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import time
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, ValidationError

from app.accounting.caller import Caller
from app.accounting.key_account import account, account_of_declared
from app.accounting.key_watch import KeyWatch
from app.api import wire
from app.api.access import CALLER, Access
from app.api.serving import Serving
from app.config import schema
from app.config.load import first_mistake
from app.config.names import nearest
from app.errors import FixedKey, InvalidField, InvalidJSON, KeysUnavailable, NoDatabase
from app.routing.names import Names
from app.telemetry.logs import log

if TYPE_CHECKING:
    from app.accounting.key_store import KeyStore

_MAX_BODY_BYTES = 256 * 1024
_BODY_SECONDS = 10.0
_EXAMPLE = {
    "name": "team-blue",
    "routes": ["auto"],
    "models": [],
    "expires": "2027-12-31",
    "tags": ["blue"],
    "limits": {"usd_per_day": 5, "requests_per_minute": 600},
}
Body = TypeVar("Body", bound=BaseModel)


class Rotation(schema.Written):
    """How to replace the text of a key."""

    grace_seconds: Annotated[float, Field(ge=0, le=30 * 86_400)] = 3600
    """How long the text before goes on."""


def doors(access: Access, watch: KeyWatch | None, serving: Serving) -> APIRouter:
    router = APIRouter(prefix="/admin/keys", tags=["keys"], dependencies=[Depends(access.admin)])

    def fixed() -> dict[str, schema.Key]:
        """The keys of the YAML."""
        return {key.id: key for key in serving.active.config.keys}

    def changeable(key_id: str) -> str:
        if key_id in fixed():
            raise FixedKey(f"Key {key_id} is declared in the configuration: change it there.")
        return key_id

    @router.post("", status_code=201, summary="Make a key; its text is shown this once",
                 openapi_extra=_takes(_EXAMPLE))  # fmt: skip
    async def create(request: Request) -> dict[str, Any]:
        terms = await _read(request, schema.KeyTerms)
        _check(terms, serving.pipeline.names)
        async with _open(watch) as store:
            key, text = await store.create(terms)
        _log(request, "made", key.id)
        return {**account(key, time()), "key": text}

    @router.get("", summary="Every key, also those that have ended; never a text or a hash")
    async def keys() -> dict[str, Any]:
        now = time()
        kept: list[dict[str, Any]] = []
        if watch is not None:
            async with _open(watch, writes=False) as store:
                kept = [account(key, now) for key in await store.all()]
        told = [account_of_declared(key, now) for key in fixed().values()]
        return {"object": "list", "data": told + kept}

    @router.get("/{key_id}", summary="One of them")
    async def key(key_id: str) -> dict[str, Any]:
        if (declared := fixed().get(key_id)) is not None:
            return account_of_declared(declared, time())
        async with _open(watch, writes=False) as store:
            return account(await store.get(key_id), time())

    @router.patch("/{key_id}", summary="Change what a key is for: the fields that are sent",
                  openapi_extra=_takes(_EXAMPLE))  # fmt: skip
    async def change(request: Request, key_id: str) -> dict[str, Any]:
        terms = await _read(request, schema.KeyTerms)
        _check(terms, serving.pipeline.names)
        async with _open(watch) as store:
            changed = await store.change(changeable(key_id), terms)
        _log(request, "changed", key_id)
        return account(changed, time())

    @router.delete("/{key_id}", summary="Revoke a key, for good")
    async def revoke(request: Request, key_id: str) -> dict[str, Any]:
        async with _open(watch) as store:
            revoked = await store.revoke(changeable(key_id))
        _log(request, "revoked", key_id)
        return account(revoked, time())

    @router.post("/{key_id}/rotate", summary="A new text, shown this once; the one before goes on "
                 "for a while", openapi_extra=_takes({"grace_seconds": 3600}))  # fmt: skip
    async def rotate(request: Request, key_id: str) -> dict[str, Any]:
        rotation = await _read(request, Rotation)
        async with _open(watch) as store:
            rotated, text = await store.rotate(changeable(key_id), rotation.grace_seconds)
        _log(request, "replaced", key_id)
        return {**account(rotated, time()), "key": text}

    return router


@asynccontextmanager
async def _open(watch: KeyWatch | None, *, writes: bool = True) -> AsyncIterator[KeyStore]:
    """The store; after a change this process knows of it before the answer goes out.

    Raises NoDatabase or KeysUnavailable.
    """
    if watch is None:
        raise NoDatabase("This gateway has no database: declare keys in its configuration.")
    store = await watch.store()
    with watch.translated():
        yield store
    if writes:
        with suppress(KeysUnavailable):  # it is committed, and the watch goes on looking
            await watch.refresh()


async def _read(request: Request, model: type[Body]) -> Body:
    """A checked body; an empty one is an empty object. Raises CallerError."""
    try:
        body = await wire.read_body(request.receive, limit=_MAX_BODY_BYTES, seconds=_BODY_SECONDS)
    except wire.ClientGone:
        raise InvalidJSON("The body did not arrive.") from None
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise InvalidJSON("The body is not valid JSON.") from None
        field, wrong = first_mistake(error, model)
        raise InvalidField(f"`{field}`: {wrong}.", param=field or None) from None


def _check(terms: schema.KeyTerms, names: Names) -> None:
    """Scopes must name what there is, and a key must not be over before it begins."""
    for field, given, known in (
        ("routes", terms.routes, names.routes),
        ("models", terms.models, names.models),
    ):
        for name in given or ():
            if name not in known:
                hint = nearest(name, known)
                told = f"There is no {field[:-1]} named `{name}`" + (f"; {hint}" if hint else ".")
                raise InvalidField(told, param=field)
    if terms.expires is not None and terms.expires.timestamp() <= time():
        raise InvalidField("`expires` is in the past; DELETE revokes a key.", param="expires")


def _takes(example: dict[str, Any]) -> dict[str, Any]:
    """The body for the documentation: it is read by hand, after the key is checked."""
    content = {"application/json": {"schema": {"type": "object", "example": example}}}
    return {"requestBody": {"content": content}}


def _log(request: Request, what: str, key_id: str) -> None:
    caller: Caller = request.scope[CALLER]
    log.info("key %s was %s by %s", key_id, what, caller.key_id)
