"""Who is at the door: the key of a request is checked before its body is read.

A key comes as `Authorization: Bearer` or `x-api-key` and goes no further than here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import Scope

from app.accounting.caller import ANONYMOUS, Caller
from app.accounting.key_text import looks_like_key
from app.accounting.keyring import Keyring
from app.api import wire
from app.config.hosts import is_loopback
from app.errors import ForeignOrigin, KeyRefused, OutOfScope, UnknownKey

_OPEN = frozenset(
    {"/livez", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/dashboard"}
)
"""Doors that tell nothing of what is configured."""
_OPEN_FILES = "/dashboard/static/"
"""Of the dashboard, which without data is an empty page."""
CALLER = "pointsman.caller"
"""Where a scope holds the caller, for doors that FastAPI serves."""
HOW = "send `Authorization: Bearer <key>` or `x-api-key: <key>`"


async def nothing_new() -> None:
    """Without a database every key is known from the start."""


class Access:
    """Lets callers in, or says why not."""

    def __init__(self, keyring: Keyring, refresh: Callable[[], Awaitable[None]]) -> None:
        """`refresh` reads what has changed in the database; it raises KeysUnavailable if it
        can't."""
        self.keyring = keyring
        self._refresh = refresh

    async def caller(self, scope: Scope) -> Caller:
        """Who sends a request. Raises KeyRefused, KeysUnavailable or ForeignOrigin."""
        text = _key_in(scope)
        keyring = self.keyring
        if keyring.awaits and keyring.allow_anonymous is None and not keyring.holds(text):
            await self._refresh()  # whether a key is asked for at all is not known before
        if not keyring.asks and (
            text is None or not keyring.configured or not looks_like_key(text)
        ):
            if keyring.allow_anonymous is None:
                _refuse_foreign_pages(scope)
            return ANONYMOUS
        if text is None:
            raise KeyRefused(_why_none(scope))
        try:
            return keyring.check(text)
        except UnknownKey:
            # It may have been made elsewhere a moment ago.
            await self._refresh()
            return keyring.check(text)

    def is_open(self, scope: Scope) -> bool:
        """Whether a door lets everybody in."""
        path = scope["path"]
        return path in _OPEN or path.startswith(_OPEN_FILES)

    def admin(self, request: Request) -> Caller:
        """For the admin doors. Raises KeyRefused or OutOfScope."""
        return self._with_scope(request, "admin")

    def metrics(self, request: Request) -> Caller:
        """For the metrics, which anyone may read as long as there is no key at all."""
        if not self.keyring.guarded:
            return ANONYMOUS
        return self._with_scope(request, "metrics")

    def dashboard(self, request: Request) -> Caller:
        """For the dashboard's data: as long as there is no key at all, for who reaches this door.

        Raises KeyRefused, OutOfScope or ForeignOrigin.
        """
        if self.keyring.guarded:
            return self._with_scope(request, "admin")
        if self.keyring.allow_anonymous is None:
            _refuse_foreign_hosts(request.scope)
        return ANONYMOUS

    def _with_scope(self, request: Request, needed: str) -> Caller:
        caller: Caller = request.scope[CALLER]
        if caller.admin or (needed == "metrics" and caller.metrics):
            return caller
        if caller.key_id is not None:
            raise OutOfScope(f"Key {caller.key_id} lacks the scope `{needed}`.")
        told = f"This door needs a key with the scope `{needed}`: {HOW}."
        if not self.keyring.configured:
            told += (
                " This gateway has no key yet: start it with POINTSMAN_ADMIN_KEY, or make one"
                f" with `pointsman keys create --{needed}`."
            )
        raise KeyRefused(told)


def _key_in(scope: Scope) -> bytes | None:
    """The text of the key that a request carries."""
    text = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer" and (rest := rest.strip()):
                return bytes(rest)
        elif name == b"x-api-key" and text is None:
            text = bytes(value.strip()) or None
    return text


def _why_none(scope: Scope) -> str:
    if wire.header(scope, b"authorization") is not None:
        return f"The `Authorization` header holds no Bearer key: {HOW}."
    return f"No key was sent: {HOW}."


def _refuse_foreign_pages(scope: Scope) -> None:
    """Where no key is asked for on loopback, any web page could spend money through the browser
    of who runs the gateway: browsers name the page they act for."""
    origin = wire.header(scope, b"origin")
    if origin is None:
        return
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        host = None
    if host is None or not is_loopback(host):
        raise ForeignOrigin("Web pages of other hosts are not served by a gateway without keys.")


def _refuse_foreign_hosts(scope: Scope) -> None:
    """A name of somebody else's that has been pointed at this machine: to a browser its page and
    this gateway are then one place, and it sends no origin with a GET."""
    host = wire.header(scope, b"host") or ""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name is None or not is_loopback(name):
        raise ForeignOrigin(
            "Without keys the dashboard answers on localhost alone. Set POINTSMAN_ADMIN_KEY to "
            "open it under another name."
        )
