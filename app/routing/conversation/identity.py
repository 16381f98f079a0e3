"""Which conversation a request belongs to: the one it names, else the one that began as it does."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from app.accounting.caller import Caller
from app.exchange.request import Request


class Identity(NamedTuple):
    """`key` names the conversation; `beginning` is of its messages up to the first of the user:
    where that is another, so is the prompt that providers may have cached."""

    key: bytes
    beginning: bytes


def follows(request: Request) -> bool:
    """Whether something may have been said in the conversation before."""
    messages = request.payload["messages"]
    if request.session is not None:
        return True
    return len(messages) > 1 and any(map(_is_later, messages))


def identify(request: Request, route: str, caller: Caller) -> Identity:
    """Conversations are a caller's own, and a route's."""
    begins = blake2b(digest_size=8)
    for message in request.payload["messages"]:
        if _is_later(message):
            break
        begins.update(orjson.dumps(message))
        if message["role"] == "user":
            break
    beginning = begins.digest()
    name = beginning.hex() if request.session is None else f"id {request.session}"
    whose = [route, caller.key_id, name, _user(request.payload)]
    key = blake2b(orjson.dumps(whose), digest_size=16).digest()
    return Identity(key, beginning)


def _is_later(message: Mapping[str, Any]) -> bool:
    return message["role"] not in ("system", "developer", "user")


def _user(payload: Mapping[str, Any]) -> str | None:
    user = payload.get("user")
    return user if isinstance(user, str) else None
