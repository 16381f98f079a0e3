"""Ordered faults happen exactly as ordered, and the log tells what the other side did."""

import json
import time
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control

USER: Any = [{"role": "user", "content": "Hello"}]


async def ask(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(model="m", messages=USER, **fields)


def post(upstream: Control, **fields: Any) -> httpx2.Response:
    body = {"model": "m", "messages": USER, **fields}
    return httpx2.post(f"{upstream.base_url}/chat/completions", json=body)


async def test_scripted_status_error_and_headers(client: AsyncOpenAI, upstream: Control) -> None:
    upstream.script(status=429, headers={"Retry-After": "7"}, error={"error": {"message": "slow"}})
    with pytest.raises(openai.RateLimitError, match="slow") as caught:
        await ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert await ask(client)


async def test_scripted_status_without_a_body_gets_openais_envelope(upstream: Control) -> None:
    upstream.script(status=503)
    assert post(upstream).json()["error"]["type"] == "server_error"
    upstream.script(status=502, error="<html>bad gateway</html>", content_type="text/html")
    answer = post(upstream)
    assert answer.text == "<html>bad gateway</html>"
    assert answer.headers["content-type"] == "text/html"


async def test_a_request_brings_its_own_behaviour(client: AsyncOpenAI, upstream: Control) -> None:
    upstream.script(status=500, times=None)
    answer = await ask(client, extra_body={"x_simulate": {"text": "exactly this"}})
    assert answer.choices[0].message.content == "exactly this"


async def test_exact_usage_and_none(client: AsyncOpenAI) -> None:
    exact = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer = await ask(client, extra_body={"x_simulate": {"usage": exact}})
    assert answer.usage.to_dict() == exact
    silent = await ask(client, extra_body={"x_simulate": {"usage": "missing"}})
    assert silent.usage is None


async def test_exact_tool_calls(client: AsyncOpenAI) -> None:
    calls = [{"name": "a", "arguments": {"x": 1}, "id": "one"}, {"name": "b", "arguments": "{bro"}]
    answer = await ask(client, extra_body={"x_simulate": {"tool_calls": calls}})
    first, second = answer.choices[0].message.tool_calls
    assert (first.id, first.function.arguments) == ("one", '{"x":1}')
    assert second.function.arguments == "{bro"


async def test_number_of_deltas(client: AsyncOpenAI) -> None:
    for chunks in (1, 5, 400):
        extra = {"x_simulate": {"chunks": chunks}}
        got = [chunk async for chunk in await ask(client, stream=True, extra_body=extra)]
        assert sum(bool(chunk.choices[0].delta.content) for chunk in got) == chunks


async def test_exact_events(upstream: Control) -> None:
    raw = ['data: {"a"', ": 1}\r\n\r\n", ": comment\n\n", "data: [DONE]\n\n"]
    answer = post(upstream, stream=True, x_simulate={"raw_sse": raw})
    assert answer.text == "".join(raw)
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_malformed_json(upstream: Control) -> None:
    plain = post(upstream, x_simulate={"malformed": True})
    with pytest.raises(json.JSONDecodeError):
        plain.json()
    stream = post(upstream, stream=True, x_simulate={"malformed": True}).text
    second = stream.split("\n\n")[1].removeprefix("data: ")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(second)


async def test_cut_before_the_head(client: AsyncOpenAI, upstream: Control) -> None:
    upstream.script(cut_before_head=True)
    with pytest.raises(openai.APIConnectionError):
        await ask(client)
    assert upstream.log()[-1]["status"] is None


async def received(upstream: Control, **behaviour: Any) -> bytes:
    """The body up to the reset that has to come."""
    body = {"model": "m", "messages": USER, "stream": True, "x_simulate": behaviour}
    url = f"{upstream.base_url}/chat/completions"
    pieces: list[bytes] = []
    async with httpx2.AsyncClient() as client, client.stream("POST", url, json=body) as answer:
        with pytest.raises(httpx2.ReadError):
            await collect(answer, pieces)
    return b"".join(pieces)


async def collect(answer: httpx2.Response, pieces: list[bytes]) -> None:
    async for piece in answer.aiter_raw():
        pieces.append(piece)  # noqa: PERF401 -- what came before the reset has to stay


@pytest.mark.parametrize("size", [0, 1, 300, 701])
async def test_cut_after_bytes(upstream: Control, size: int) -> None:
    assert len(await received(upstream, cut_after_bytes=size)) == size


@pytest.mark.parametrize("chunks", [0, 1, 4])
async def test_cut_after_chunks(upstream: Control, chunks: int) -> None:
    got = await received(upstream, cut_after_chunks=chunks)
    assert got.count(b"\n\n") == chunks


async def test_stall_until_the_client_hangs_up(client: AsyncOpenAI, upstream: Control) -> None:
    extra = {"x_simulate": {"stall_after_chunks": 3}}
    stream = await ask(client, stream=True, extra_body=extra, timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        [chunk async for chunk in stream]
    exchange = upstream.wait_for(lambda one: one["disconnected"])
    assert exchange["events_sent"] == 3
    assert exchange["disconnected_at"] <= time.time()
    assert exchange["finished_at"]


async def test_a_hang_up_between_chunks_is_noticed(client: AsyncOpenAI, upstream: Control) -> None:
    extra = {"x_simulate": {"chunk_delay_seconds": 0.01, "chunks": 1000}}
    stream = await ask(client, stream=True, extra_body=extra)
    await anext(aiter(stream))
    left_at = time.time()
    await stream.close()
    exchange = upstream.wait_for(lambda one: one["disconnected"])
    assert exchange["disconnected_at"] - left_at < 0.5
    assert exchange["events_sent"] < 100


async def test_delays(upstream: Control) -> None:
    for key in ("delay_seconds", "first_byte_delay_seconds"):
        started = time.monotonic()
        post(upstream, x_simulate={key: 0.1})
        assert time.monotonic() - started >= 0.1


async def test_the_log_keeps_headers_and_the_body_as_it_came(upstream: Control) -> None:
    body = b'{ "model":"m",\n "messages":[{"role":"user","content":"\\u00e9"}], "mine": 1.50 }'
    httpx2.post(f"{upstream.base_url}/chat/completions", content=body, headers={"X-Mine": "yes"})
    exchange = upstream.log()[-1]
    assert exchange["body"].encode() == body
    assert ["x-mine", "yes"] in exchange["headers"]
    assert exchange["status"] == 200
    assert not exchange["disconnected"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(upstream: Control, body: bytes) -> None:
    answer = httpx2.post(f"{upstream.base_url}/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("depth", [200, 300, 900, 2000])
def test_deep_nesting_is_no_failure(upstream: Control, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    body = f'{{"model":"m","messages":[{{"role":"user","content":"x","y":{nested}}}]}}'
    answer = httpx2.post(f"{upstream.base_url}/chat/completions", content=body)
    assert answer.status_code in (200, 400)


def test_a_wrong_script_is_refused(upstream: Control) -> None:
    with pytest.raises(ValueError, match="Did you mean 'status'"):
        upstream.script(statu=500)


def test_waiting_in_vain_says_so(upstream: Control) -> None:
    with pytest.raises(TimeoutError, match="no such exchange"):
        upstream.wait_for(lambda _: False, timeout_seconds=0.02)
