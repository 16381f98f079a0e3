"""Streams pass as they come: nothing is held back, added or lost, and the cost is still counted."""

import time
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, body, eventually

USER: Any = [{"role": "user", "content": "How are the trains today?"}]


async def stream(client: AsyncOpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    given = {"model": "auto", "messages": USER, **fields}
    chunks = [chunk async for chunk in await client.chat.completions.create(**given, stream=True)]
    return [ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True) for chunk in chunks]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_stream_carries_the_whole_answer(client: AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="auto", messages=USER)
    chunks = await stream(client)
    assert text_of(chunks) == plain.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {"small"}
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_usage_is_shown_when_asked_for(client: AsyncOpenAI) -> None:
    chunks = await stream(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].model == "small"


async def test_usage_is_hidden_when_not_asked_for_and_still_counted(
    standard: Gateway, client: AsyncOpenAI, simulated: Control
) -> None:
    before = standard.metric("pointsman_cost_dollars_total", model="small")
    chunks = await stream(client)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    sent = orjson.loads(simulated.log()[-1]["body"])
    assert sent["stream_options"] == {"include_usage": True}
    eventually(lambda: standard.metric("pointsman_cost_dollars_total", model="small") > before)


async def test_other_stream_options_are_kept(client: AsyncOpenAI, simulated: Control) -> None:
    await stream(client, stream_options={"include_obfuscation": False})
    sent = orjson.loads(simulated.log()[-1]["body"])
    assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_cached_tokens_of_a_stream_are_priced_as_cached(standard: Gateway) -> None:
    usage = {
        "prompt_tokens": 1_000_000,
        "completion_tokens": 0,
        "total_tokens": 1_000_000,
        "prompt_tokens_details": {"cached_tokens": 900_000},
    }
    before = standard.metric("pointsman_cost_dollars_total", model="large")
    standard.chat(model="large", stream=True, x_simulate={"usage": usage})

    def cost() -> float:
        return standard.metric("pointsman_cost_dollars_total", model="large") - before

    eventually(lambda: cost() > 0)
    assert cost() == pytest.approx(0.1 * 5.00 + 0.9 * 0.50)


async def test_a_stream_without_usage_is_counted_as_unpriced(standard: Gateway) -> None:
    before = standard.metric("pointsman_unpriced_requests_total", model="small")
    answer = standard.chat(stream=True, x_simulate={"usage": "missing"})
    assert answer.text.endswith("data: [DONE]\n\n")
    eventually(
        lambda: standard.metric("pointsman_unpriced_requests_total", model="small") == before + 1
    )


async def test_chunks_come_as_they_are_made(client: AsyncOpenAI) -> None:
    simulate = {"x_simulate": {"chunks": 5, "chunk_delay_seconds": 0.1}}
    answer = await client.chat.completions.create(
        model="auto", messages=USER, stream=True, extra_body=simulate
    )
    times = [time.monotonic() async for _ in answer]
    # On a busy machine two may come together; held back, they all would.
    assert times[-1] - times[0] > 0.25


async def test_headers_come_before_the_body_with_the_decision(standard: Gateway) -> None:
    request = body(stream=True, x_simulate={"chunks": 3, "chunk_delay_seconds": 0.05})
    url = f"{standard.base_url}/chat/completions"
    async with (
        httpx2.AsyncClient() as plain,
        plain.stream("POST", url, json=request) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-pointsman-model"] == "small"
        assert answer.headers["x-pointsman-decision"] == "rule"
        text = (await answer.aread()).decode()
    assert text.count("data: [DONE]") == 1


async def test_several_choices_interleaved(client: AsyncOpenAI) -> None:
    chunks = await stream(client, n=2)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


async def test_unusual_events_pass_unchanged(standard: Gateway) -> None:
    head = '{"id":"x","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":'
    events = [
        ": a comment\n\n",
        f'data: {head}{{"content":"caf\\u00e9"}}}}]}}\r\n\r\n',
        f'event: message\ndata: {head}{{"content":"in"}}}}],"extra":{{"a":1.50}}}}\n\n',
        f'id: 7\ndata:{head}{{}},"finish_reason":"stop"}}]}}\n\n',
        "data: [DONE]\n\n",
    ]
    answer = standard.chat(stream=True, x_simulate={"raw_sse": events})
    assert answer.text == "".join(events).replace('"model":"m"', '"model":"small"')


def chunk(*choices: dict[str, Any], **fields: Any) -> str:
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return "data: " + orjson.dumps({**frame, "choices": choices, **fields}).decode() + "\n\n"


def called(call: int, choice: int = 0, **fields: Any) -> dict[str, Any]:
    delta = {"tool_calls": [{"index": call, **fields}]}
    return {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}


async def test_parallel_calls_of_several_choices_and_usage_survive_unchanged(
    standard: Gateway,
) -> None:
    """Ids come once, indices count, arguments come in pieces and interleaved, and nothing of it is
    gathered, renumbered or written anew."""
    first = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}}
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16, "of_theirs": {"x": 1}}
    events = [
        chunk({"index": 0, "delta": {"role": "assistant", "content": None}}, usage=None),
        chunk(called(0, **first), usage=None),
        chunk(called(1, **second), called(0, 1, **{**first, "id": "call_c"}), usage=None),
        chunk(called(1, function={"arguments": '{"a":'}), usage=None),
        chunk(called(0, function={"arguments": '{"b": "\u00e9\\n'}), usage=None),
        chunk(called(0, function={"arguments": '"}'}), called(1, function={"arguments": "1}"})),
        chunk({"index": 0, "delta": {}, "finish_reason": "tool_calls"}),
        chunk({"index": 1, "delta": {}, "finish_reason": "tool_calls"}),
        chunk(usage=usage),
        "data: [DONE]\n\n",
    ]
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    answer = standard.chat(**asked, x_simulate={"raw_sse": events})
    assert answer.text == "".join(events).replace('"model":"m"', '"model":"small"')


async def test_events_torn_apart_are_put_together(standard: Gateway) -> None:
    chunk = '{"id":"x","object":"chat.completion.chunk","model":"m","choices":[{"index":0}]}'
    whole = f"data: {chunk}\n\n" * 3 + "data: [DONE]\n\n"
    torn = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    answer = standard.chat(stream=True, x_simulate={"raw_sse": torn, "chunk_delay_seconds": 0.002})
    assert answer.text == whole.replace('"model":"m"', '"model":"small"')


async def test_a_cut_in_the_middle_is_told_as_an_error_event(client: AsyncOpenAI) -> None:
    got: list[Any] = []
    simulate = {"x_simulate": {"cut_after_chunks": 3}}
    answer = await client.chat.completions.create(
        model="auto", messages=USER, stream=True, extra_body=simulate
    )
    with pytest.raises(openai.APIError) as caught:
        await collect(answer, got)
    assert len(got) == 3
    assert caught.value.code == "upstream_cut"


async def collect(answer: Any, got: list[Any]) -> None:
    async for chunk in answer:
        got.append(chunk)  # noqa: PERF401 -- what came before the error has to stay


async def test_a_long_stream_passes_whole(standard: Gateway) -> None:
    answer = standard.chat(stream=True, model="large", x_simulate={"chunks": 5000})
    assert answer.text.count("data: ") == 5000 + 3
