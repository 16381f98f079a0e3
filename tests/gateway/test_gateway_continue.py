"""A stream that breaks off after its first event goes on on another model, where the route wants
it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, eventually
from tests.gateway.test_gateway_ledger import row

CONFIG = STANDARD.replace(
    "    router: null\n", "    router: null\n    on_stream_failure: continue\n"
)
USER: Any = [{"role": "user", "content": "Count."}]
SEAM = ": pointsman continued on medium\n\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"


@pytest.fixture
def one(gateway: Serve, url: str) -> Gateway:
    return gateway(f"{CONFIG}\nledger: {{{{url: '{url}'}}}}\n")


@pytest.fixture
async def client(one: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with one.client() as client:
        yield client


def breaks(simulated: Control, **fault: Any) -> None:
    simulated.script("up-small", text="one two three four", chunks=4, **fault)
    simulated.script("up-medium", text=" and the rest", chunks=2)


@pytest.mark.parametrize(
    "fault", [{"cut_after_chunks": 3}, {"end_after_chunks": 3}], ids=["reset", "ended"]
)
async def test_another_model_goes_on(
    client: AsyncOpenAI, simulated: Control, fault: dict[str, Any]
) -> None:
    breaks(simulated, **fault)
    stream = await client.chat.completions.create(model="auto", messages=USER, stream=True)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    first, second = (orjson.loads(each["body"]) for each in simulated.log())
    prefix = second["messages"][-1]["content"]
    assert second["messages"] == [*first["messages"], {"role": "assistant", "content": prefix}]
    assert text == prefix + " and the rest"
    assert "one two" in prefix
    assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1
    assert list(dict.fromkeys(chunk.model for chunk in chunks)) == ["small", "medium"]


def test_the_seam_is_marked_and_every_attempt_is_booked(
    one: Gateway, simulated: Control, url: str
) -> None:
    breaks(simulated, cut_after_chunks=3)
    answer = one.chat(stream=True)
    assert answer.text.count(SEAM) == 1
    assert answer.text.endswith("data: [DONE]\n\n")
    booked = row(url, answer)
    assert [(a["model"], a["outcome"]) for a in booked["attempts"]] == [
        ("small", "cut"),
        ("medium", "ok"),
    ]
    assert (booked["status"], booked["outcome"], booked["model"]) == (200, "ok", "medium")
    assert booked["decision"] == "fallback"
    assert booked["cost_estimated"]
    assert booked["cost_nano"] == sum(a["cost"] for a in booked["attempts"])
    assert all(a["cost"] > 0 for a in booked["attempts"])


def test_an_error_inside_the_stream_is_a_failure_too(one: Gateway, simulated: Control) -> None:
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "one"}}]}
    told = [f"data: {orjson.dumps(chunk).decode()}\n\n", 'data: {"error": {"message": "x"}}\n\n']
    simulated.script("up-small", raw_sse=["".join(told)])
    answer = one.chat(stream=True)
    assert answer.text.count(SEAM) == 1
    assert '"error"' not in answer.text
    assert orjson.loads(simulated.log()[1]["body"])["messages"][-1]["content"] == "one"


@pytest.mark.parametrize(
    "more", [{"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}]
)
async def test_what_is_more_than_text_ends_in_an_error(
    client: AsyncOpenAI, simulated: Control, more: dict[str, Any]
) -> None:
    simulated.script("up-small", cut_after_chunks=3)
    stream = await client.chat.completions.create(
        **{"model": "auto", "messages": USER, "stream": True, **more}
    )
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "upstream_cut"
    assert len(simulated.log()) == 1


def test_nobody_left_to_go_on(one: Gateway, simulated: Control, url: str) -> None:
    simulated.script("up-small", cut_after_chunks=3)
    for name in ("up-medium", "up-large"):
        simulated.script(name, times=None, status=503)
    answer = one.chat(stream=True)
    assert '"code":"upstream_cut"' in answer.text
    assert SEAM not in answer.text
    booked = row(url, answer)
    assert [a["outcome"] for a in booked["attempts"]] == ["cut", "server_error", "server_error"]
    assert (booked["status"], booked["outcome"], booked["model"]) == (200, "cut", "small")
    assert one.metric("pointsman_requests_in_flight") == 0


def test_a_second_break_is_continued_as_well(one: Gateway, simulated: Control) -> None:
    for name in ("up-small", "up-medium"):
        simulated.script(name, text="one two three four", chunks=4, cut_after_chunks=3)
    simulated.script("up-large", text=" end")
    answer = one.chat(stream=True)
    assert ": pointsman continued on large\n\n" in answer.text
    said = [orjson.loads(each["body"])["messages"][-1]["content"] for each in simulated.log()]
    assert said[2] == said[1] * 2
    assert len(orjson.loads(simulated.log()[2]["body"])["messages"]) == 2


async def test_leaving_while_another_model_is_asked(
    client: AsyncOpenAI, one: Gateway, simulated: Control
) -> None:
    before = one.metric("pointsman_requests_total", code="499")
    simulated.script("up-small", cut_after_chunks=3)
    simulated.script("up-medium", delay_seconds=60)
    stream = await client.chat.completions.create(model="auto", messages=USER, stream=True)
    await anext(aiter(stream))
    await asyncio.to_thread(simulated.wait_for, lambda each: each["model"] == "up-medium")
    await stream.close()
    await asyncio.to_thread(simulated.wait_for, lambda each: each["disconnected"])
    await asyncio.to_thread(
        eventually, lambda: one.metric("pointsman_requests_total", code="499") == before + 1
    )
    assert one.metric("pointsman_requests_in_flight") == 0
