"""The scripted upstream as the real OpenAI client sees it, with the client's own strict types."""

from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from app.simulated.control import Control
from app.simulated.thread import simulated_in_thread

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
USER: Any = [{"role": "user", "content": "How are the trains today?"}]


async def ask(client: AsyncOpenAI, **fields: Any) -> ChatCompletion:
    answer = await client.chat.completions.create(
        **{"model": "sim-test", "messages": USER, **fields}
    )
    assert isinstance(answer, ChatCompletion)
    return ChatCompletion.model_validate(answer.model_dump(), strict=True)


async def stream(client: AsyncOpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    given = {"model": "sim-test", "messages": USER, **fields}
    chunks = [chunk async for chunk in await client.chat.completions.create(**given, stream=True)]
    return [ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True) for chunk in chunks]


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def test_an_answer_is_labelled_and_the_same_again(client: AsyncOpenAI) -> None:
    first, second = await ask(client), await ask(client)
    assert first.system_fingerprint == "simulated"
    assert (first.choices[0].message.content or "").startswith("[simulated sim-test]")
    assert first.id == second.id
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.usage
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens


async def test_every_answer_carries_the_header(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=USER)
    assert raw.headers["x-simulated"] == "true"


async def test_a_stream_says_what_the_plain_answer_says(client: AsyncOpenAI) -> None:
    plain, chunks = await ask(client), await stream(client)
    assert text_of(chunks) == plain.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set or chunk.usage is None for chunk in chunks)


async def test_usage_comes_in_a_last_chunk_when_asked_for(client: AsyncOpenAI) -> None:
    plain = await ask(client)
    chunks = await stream(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_seed_changes_the_text(client: AsyncOpenAI) -> None:
    texts = {(await ask(client, seed=seed)).choices[0].message.content for seed in (1, 2, 1)}
    assert len(texts) == 2


async def test_several_choices(client: AsyncOpenAI) -> None:
    plain, chunks = await ask(client, n=3), await stream(client, n=3)
    texts = [choice.message.content for choice in plain.choices]
    assert [choice.index for choice in plain.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [text_of(chunks, index) for index in range(3)] == texts


async def test_a_tool_is_called_with_arguments_that_fit(client: AsyncOpenAI) -> None:
    answer = await ask(client, tools=[WEATHER])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert orjson.loads(call.function.arguments) == {"city": "simulated", "days": 2}


async def test_a_prompt_that_names_two_tools_gets_two_calls(client: AsyncOpenAI) -> None:
    messages = [{"role": "user", "content": "Use get_weather and get_time."}]
    answer = await ask(client, messages=messages, tools=[WEATHER, CLOCK])
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == [
        "get_weather",
        "get_time",
    ]
    assert len({call.id for call in calls}) == 2
    one = await ask(client, messages=messages, tools=[WEATHER, CLOCK], parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls or []) == 1


async def test_streamed_calls_have_their_index_and_their_id_once(client: AsyncOpenAI) -> None:
    simulate = {"x_simulate": {"tool_calls": 2}}
    chunks = await stream(client, tools=[WEATHER, CLOCK], extra_body=simulate)
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    by_index = {index: [d for d in deltas if d.index == index] for index in (0, 1)}
    assert len(by_index[0]) + len(by_index[1]) == len(deltas)
    for calls in by_index.values():
        assert [bool(call.id) for call in calls] == [True] + [False] * (len(calls) - 1)
    arguments = "".join(call.function.arguments or "" for call in by_index[0] if call.function)
    assert orjson.loads(arguments) == {"city": "simulated", "days": 2}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_no_call_when_told_not_to_or_after_a_result(client: AsyncOpenAI) -> None:
    none = await ask(client, tools=[WEATHER], tool_choice="none")
    assert none.choices[0].finish_reason == "stop"
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    after = await ask(client, messages=messages, tools=[WEATHER])
    assert after.choices[0].message.content


async def test_a_named_tool_is_called(client: AsyncOpenAI) -> None:
    choice = {"type": "function", "function": {"name": "get_time"}}
    answer = await ask(client, tools=[WEATHER, CLOCK], tool_choice=choice)
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["get_time"]


async def test_custom_tools_are_given_text(client: AsyncOpenAI) -> None:
    answer = await ask(client, tools=[{"type": "custom", "custom": {"name": "shell"}}])
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert call.type == "custom"
    assert call.custom.input == "simulated input"


class Trip(BaseModel):
    class Leg(BaseModel):
        station: str
        minutes: int
        platform: str | None

    name: str
    legs: list[Leg]


async def test_structured_output_parses(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="m", messages=USER, response_format=Trip)
    assert answer.choices[0].message.parsed
    assert answer.choices[0].message.parsed.legs


async def test_json_object(client: AsyncOpenAI) -> None:
    answer = await ask(client, response_format={"type": "json_object"})
    assert orjson.loads(answer.choices[0].message.content or "")["simulated"] is True


async def test_logprobs_cover_the_text(client: AsyncOpenAI) -> None:
    answer = await ask(client, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    assert choice.logprobs
    assert choice.logprobs.content
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    assert {len(token.top_logprobs) for token in choice.logprobs.content} == {3}
    chunks = await stream(client, logprobs=True)
    streamed = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].delta.content]
    assert all(logprobs and logprobs.content for logprobs in streamed)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_the_answer(client: AsyncOpenAI, field: str) -> None:
    answer = await ask(client, **{field: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 3


async def test_reasoning_is_counted_and_counts_against_the_limit(client: AsyncOpenAI) -> None:
    plain, thought = await ask(client), await ask(client, reasoning_effort="low")
    assert plain.usage
    assert thought.usage
    assert thought.usage.completion_tokens_details
    assert thought.usage.completion_tokens_details.reasoning_tokens == 64
    assert thought.usage.completion_tokens == plain.usage.completion_tokens + 64
    short = await ask(client, reasoning_effort="high", max_completion_tokens=10)
    assert short.choices[0].message.content == ""
    assert short.choices[0].finish_reason == "length"


async def test_a_limit_cuts_the_arguments_of_a_call(client: AsyncOpenAI) -> None:
    answer = await ask(client, tools=[WEATHER], max_tokens=2)
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert answer.choices[0].finish_reason == "length"
    assert call.type == "function"
    assert call.function.arguments == '{"city":'


async def test_images_count_and_the_tier_is_echoed(client: AsyncOpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    seen = await ask(client, messages=[{"role": "user", "content": content}], service_tier="flex")
    assert seen.usage
    assert seen.usage.prompt_tokens > 765
    assert seen.service_tier == "flex"
    assert (await ask(client, service_tier="auto")).service_tier == "default"


async def test_a_long_prefix_is_cached_the_second_time(client: AsyncOpenAI) -> None:
    system = {"role": "system", "content": "Timetable. " * 1000}
    for wanted in (0, 2688):
        answer = await ask(client, messages=[system, *USER])
        assert answer.usage
        assert answer.usage.prompt_tokens_details
        assert answer.usage.prompt_tokens_details.cached_tokens == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": {}}, "tools"),
        ({"model": ""}, "model"),
        ({"extra_body": {"x_simulate": {"statuss": 1}}}, "x_simulate.statuss"),
    ],
)
async def test_nonsense_is_refused_by_name(
    client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await ask(client, **fields)
    assert caught.value.param == param


async def test_an_impossible_schema_is_refused(client: AsyncOpenAI) -> None:
    schema = {"name": "x", "schema": {"type": "integer", "minimum": "low"}}
    with pytest.raises(BadRequestError, match="Invalid schema"):
        await ask(client, response_format={"type": "json_schema", "json_schema": schema})


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [
        "sim-small",
        "sim-medium",
        "sim-large",
    ]


async def test_strict_models_refuse_other_names() -> None:
    with simulated_in_thread(strict_models=True) as control:
        async with AsyncOpenAI(base_url=control.base_url, api_key="none") as client:
            await ask(client, model="sim-small")
            with pytest.raises(NotFoundError) as caught:
                await ask(client, model="other")
    assert caught.value.code == "model_not_found"


async def test_other_paths_are_not_found(client: AsyncOpenAI, upstream: Control) -> None:
    with pytest.raises(NotFoundError):
        await client.embeddings.create(model="m", input="x")
    assert upstream.log() == []
