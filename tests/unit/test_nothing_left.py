"""Whatever upstreams do wrong, no task of the gateway is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.assembly import application
from app.config.load import loads
from app.simulated.faults import FAULTS
from app.simulated.thread import simulated_in_thread

CONFIG = """
ledger: null
upstreams:
  sim:
    kind: openai
    base_url: URL
    timeouts: {connect_seconds: 1, first_byte_seconds: 0.5, idle_seconds: 0.5, total_seconds: 1}
models: {MODELS}
routes: {auto: {candidates: [empty_body], router: null}}
"""
HEAVY = ("gzip_bomb", "endless_body", "endless_event")
"""Tried with a running gateway: here they would only slow the others."""


async def ask(app: Any, model: str, *, stream: bool) -> bytes:
    """One chat request over bare ASGI; the body of its answer."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    sent: list[bytes] = []
    incoming: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": orjson.dumps(body), "more_body": False}
    ]

    async def receive() -> MutableMapping[str, Any]:
        if not incoming:
            await asyncio.Event().wait()
        return incoming.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [],
        "query_string": b"", "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    return b"".join(sent)


async def test_no_task_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What is frozen has no referrers any more, which others in this process look for.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    names = [name for name in FAULTS if name not in HEAVY]
    models = ", ".join(f"{name}: {{upstream: sim}}" for name in names)
    with simulated_in_thread() as simulated:
        for name in names:
            simulated.script(name, times=None, fault=name)
        text = CONFIG.replace("URL", simulated.base_url).replace("MODELS", models)
        app = application(loads(text, {}), warn=False)
        async with app.router.lifespan_context(app):
            before = asyncio.all_tasks()
            answers = await asyncio.gather(
                *(ask(app, name, stream=stream) for name in names for stream in (False, True))
            )
            assert all(answers)
            # What is read to its end in the background has a second for it.
            left = asyncio.all_tasks() - before
            if left:
                _, left = await asyncio.wait(left, timeout=3)
            assert not left
