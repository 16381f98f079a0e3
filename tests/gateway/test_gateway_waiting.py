"""Streams whose first event is late: silent for a while, then kept open by comments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body, eventually

USER: Any = [{"role": "user", "content": "Hello"}]
COMMENT = ": keep-alive\n\n"
CONFIG = STANDARD.replace(
    "    api_key: secret-of-the-gateway\n",
    "    api_key: secret-of-the-gateway\n"
    "    timeouts: {{first_byte_seconds: 0.6, idle_seconds: 5, total_seconds: 5}}\n",
)
CONFIG += "\nserver: {{keep_alive_comment_seconds: 0.1}}\n"


@pytest.fixture
def one(gateway: Serve) -> Gateway:
    return gateway(CONFIG)


@pytest.fixture
async def client(one: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with one.client() as client:
        yield client


def test_nothing_is_sent_before_the_first_event(standard: Gateway) -> None:
    started = time.monotonic()
    request = body(stream=True, x_simulate={"first_byte_delay_seconds": 0.4})
    with standard.http.stream("POST", "/v1/chat/completions", json=request) as answer:
        assert time.monotonic() - started >= 0.4
        assert next(answer.iter_lines()).startswith("data: ")


def test_comments_come_first_and_the_answer_is_the_same(one: Gateway) -> None:
    request = {"text": "late but whole", "chunks": 3}
    at_once = one.chat(stream=True, x_simulate=request)
    late = one.chat(stream=True, x_simulate={**request, "first_byte_delay_seconds": 0.35})
    comments, _, answer = late.text.rpartition(COMMENT)
    assert COMMENT not in at_once.text
    assert comments in (COMMENT, COMMENT * 2, COMMENT * 3)
    assert texts(answer) == texts(at_once.text)
    assert at_once.headers["x-pointsman-model"] == "small"
    assert "x-pointsman-model" not in late.headers
    assert late.headers["x-pointsman-route"] == "auto"


def texts(stream: str) -> list[str]:
    return [part for part in stream.split('"') if "late" in part or "whole" in part]


async def test_another_model_still_takes_over_unseen(
    client: AsyncOpenAI, one: Gateway, simulated: Control
) -> None:
    labels = {"model": "medium", "decision": "fallback", "code": "200"}
    before = one.metric("pointsman_requests_total", **labels)
    simulated.script("up-small", first_byte_delay_seconds=5)
    stream = await client.chat.completions.create(model="auto", messages=USER, stream=True)
    assert {chunk.model async for chunk in stream} == {"medium"}
    assert one.metric("pointsman_requests_total", **labels) == before + 1


async def test_a_failure_is_an_error_event(
    client: AsyncOpenAI, one: Gateway, simulated: Control
) -> None:
    before = one.metric("pointsman_requests_total", code="504")
    simulated.script("up-small", delay_seconds=5)
    stream = await client.chat.completions.create(model="small", messages=USER, stream=True)
    with pytest.raises(openai.APIError) as caught:
        await anext(aiter(stream))
    assert caught.value.code == "upstream_timeout"
    assert one.metric("pointsman_requests_total", code="504") == before + 1
    assert one.metric("pointsman_requests_in_flight") == 0


async def test_leaving_while_comments_come(one: Gateway, simulated: Control) -> None:
    before = one.metric("pointsman_requests_total", code="499")
    request = body(stream=True, x_simulate={"first_byte_delay_seconds": 5})
    url = f"{one.base_url}/chat/completions"
    async with (
        httpx2.AsyncClient() as plain,
        plain.stream("POST", url, json=request) as answer,
    ):
        assert (await anext(answer.aiter_text())).startswith(COMMENT)
        left_at = time.monotonic()
    gone = await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])
    assert gone["disconnected_monotonic"] - left_at < 0.25
    await asyncio.to_thread(
        eventually, lambda: one.metric("pointsman_requests_total", code="499") == before + 1
    )
    assert len(simulated.log()) == 1
    assert one.metric("pointsman_requests_in_flight") == 0
