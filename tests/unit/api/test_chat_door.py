"""The chat door at a full gate."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import orjson
from starlette.types import Message

from app.accounting.caller import ANONYMOUS
from app.api import wire
from app.api.access import Access
from app.api.openai.chat import ChatDoor
from app.api.serving import Serving
from app.config.schema import Server
from app.delivery.drain import Drain
from app.delivery.gate import Gate

BODY = orjson.dumps({"model": "one", "messages": [{"role": "user", "content": "Hi"}]})


async def answer(gate: Gate, *headers: tuple[bytes, bytes]) -> tuple[int, Any]:
    """What a door says whose pipeline only refuses."""
    pipeline = SimpleNamespace(
        refuse=lambda id_, started, error, *more: wire.refusal(error),
        reads=frozenset(),
        drain=Drain(),
    )
    active = SimpleNamespace(pipeline=pipeline, config=SimpleNamespace(server=Server()))

    async def caller(scope: Any) -> object:
        return ANONYMOUS

    access = cast("Access", SimpleNamespace(caller=caller))
    door = ChatDoor(cast("Serving", SimpleNamespace(active=active)), access, gate)
    coming: asyncio.Queue[Message] = asyncio.Queue()
    coming.put_nowait({"type": "http.request", "body": BODY})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await door({"type": "http", "headers": list(headers)}, coming.get, send)
    return sent[0]["status"], orjson.loads(sent[1]["body"])


async def test_a_hurried_request_is_not_kept_waiting() -> None:
    gate = Gate(1, queue=1, seconds=60)
    async with asyncio.timeout(10), gate.place():
        status, told = await answer(gate, (b"x-pointsman-timeout-seconds", b"0.01"))
    assert (status, told["error"]["code"]) == (503, "gateway_overloaded")


async def test_a_body_that_the_queue_has_no_room_for_is_sent_away() -> None:
    gate = Gate(1, queue=1, queue_bytes=len(BODY) - 1, seconds=60)
    async with asyncio.timeout(10), gate.place():
        status, _ = await answer(gate)
    assert status == 503
