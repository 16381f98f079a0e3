"""An unchanged OpenAI client gets through the gateway what it would get from the provider."""

from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from app.simulated.control import Control
from tests.gateway.conftest import Gateway

USER: Any = [{"role": "user", "content": "How are the trains today?"}]


async def ask(client: AsyncOpenAI, **fields: Any) -> ChatCompletion:
    answer = await client.chat.completions.create(**{"model": "auto", "messages": USER, **fields})
    assert isinstance(answer, ChatCompletion)
    return ChatCompletion.model_validate(answer.model_dump(), strict=True)


def sent(simulated: Control) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(simulated.log()[-1]["body"])
    return body


async def test_chat_goes_to_the_cheapest_and_names_who_served(
    client: AsyncOpenAI, simulated: Control
) -> None:
    answer = await ask(client)
    assert answer.model == "small"
    assert (answer.choices[0].message.content or "").startswith("[simulated up-small]")
    assert answer.usage
    assert sent(simulated)["model"] == "up-small"


@pytest.mark.parametrize("model", ["auto", "pointsman/auto", "smart"])
async def test_every_name_of_a_route(client: AsyncOpenAI, model: str) -> None:
    assert (await ask(client, model=model)).model == "small"


async def test_headers_say_what_was_decided_and_what_it_cost(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=USER)
    usage = raw.parse().usage
    assert usage
    cost = (usage.prompt_tokens * 100 + usage.completion_tokens * 400) / 1e9
    baseline = (usage.prompt_tokens * 5000 + usage.completion_tokens * 20000) / 1e9
    assert raw.headers["x-pointsman-request-id"].startswith("req_")
    assert raw.headers["x-pointsman-route"] == "auto"
    assert raw.headers["x-pointsman-model"] == "small"
    assert raw.headers["x-pointsman-decision"] == "rule"
    assert float(raw.headers["x-pointsman-cost-usd"]) == pytest.approx(cost, abs=2e-9)
    saved = float(raw.headers["x-pointsman-saved-usd"])
    assert saved == pytest.approx(baseline - cost, abs=2e-9)
    assert "x-pointsman-attempts" not in raw.headers


async def test_debug_headers_when_asked_for(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=USER, extra_headers={"x-pointsman-debug": "true"}
    )
    assert raw.headers["x-pointsman-attempts"].startswith("small=ok")
    assert "small=" in raw.headers["x-pointsman-predictions"]
    assert float(raw.headers["x-pointsman-decide-ms"]) >= 0


async def test_a_pinned_model_is_taken_without_routing(
    client: AsyncOpenAI, simulated: Control
) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="large", messages=USER)
    assert raw.parse().model == "large"
    assert raw.headers["x-pointsman-decision"] == "pinned"
    assert sent(simulated)["model"] == "up-large"


async def test_threshold_names_of_routellm(client: AsyncOpenAI) -> None:
    assert (await ask(client, model="router-knn-0.4")).model == "large"
    assert (await ask(client, model="router-knn-0.9")).model == "small"


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
BOTH: Any = [{"role": "user", "content": "Call get_weather and get_time."}]


async def test_tools_and_a_whole_tool_loop(client: AsyncOpenAI) -> None:
    first = await ask(client, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    call = (message.tool_calls or [])[0]
    assert call.type == "function"
    assert orjson.loads(call.function.arguments) == {"city": "simulated"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    messages = [*USER, message.model_dump(exclude_none=True), result]
    second = await ask(client, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"


async def test_parallel_tool_calls(client: AsyncOpenAI) -> None:
    answer = await ask(client, messages=BOTH, tools=[WEATHER, CLOCK])
    calls = answer.choices[0].message.tool_calls or []
    assert len({call.id for call in calls}) == 2
    one = await ask(client, messages=BOTH, tools=[WEATHER, CLOCK], parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls or []) == 1


async def test_parallel_tool_calls_in_a_stream_keep_index_and_id(client: AsyncOpenAI) -> None:
    tools: Any = [WEATHER, CLOCK]
    async with client.chat.completions.stream(model="auto", messages=BOTH, tools=tools) as stream:
        deltas = [
            call
            async for event in stream
            if event.type == "chunk" and event.chunk.choices
            for call in event.chunk.choices[0].delta.tool_calls or []
        ]
        final = await stream.get_final_completion()
    assert {delta.index for delta in deltas} == {0, 1}
    assert sum(bool(delta.id) for delta in deltas) == 2
    names = [call.function.name for call in final.choices[0].message.tool_calls or []]
    assert names == ["get_weather", "get_time"]


class Trip(BaseModel):
    station: str
    minutes: int
    platform: str | None


async def test_structured_output_goes_to_a_model_that_can(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="auto", messages=USER, response_format=Trip)
    assert answer.model == "medium"
    assert isinstance(answer.choices[0].message.parsed, Trip)


async def test_structured_output_streamed(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="auto", messages=USER, response_format=Trip
    ) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Trip)


async def test_json_object_is_enough_for_small(client: AsyncOpenAI) -> None:
    answer = await ask(client, response_format={"type": "json_object"})
    assert answer.model == "small"
    assert orjson.loads(answer.choices[0].message.content or "")["simulated"]


async def test_vision_goes_to_a_model_that_sees(client: AsyncOpenAI, simulated: Control) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    answer = await ask(client, messages=[{"role": "user", "content": content}])
    assert answer.model == "medium"
    assert answer.usage
    assert answer.usage.prompt_tokens > 700
    assert sent(simulated)["messages"][0]["content"] == content


async def test_logprobs(client: AsyncOpenAI) -> None:
    answer = await ask(client, logprobs=True, top_logprobs=2)
    assert answer.model == "medium"
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert len(logprobs.content[0].top_logprobs) == 2


async def test_several_choices_and_seed(client: AsyncOpenAI, simulated: Control) -> None:
    answer = await ask(client, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sent(simulated)["seed"] == 7


async def test_tier_and_reasoning_effort(client: AsyncOpenAI) -> None:
    answer = await ask(client, service_tier="flex", reasoning_effort="low")
    assert answer.service_tier == "flex"
    assert answer.usage
    assert answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.reasoning_tokens == 64


async def test_output_limit(client: AsyncOpenAI) -> None:
    assert (await ask(client, max_tokens=3)).choices[0].finish_reason == "length"
    assert (await ask(client, max_completion_tokens=2000)).model == "medium"


async def test_a_long_prompt_goes_to_a_larger_window(client: AsyncOpenAI) -> None:
    messages = [{"role": "user", "content": "word " * 5000}]
    assert (await ask(client, messages=messages)).model == "medium"


async def test_unknown_fields_reach_the_upstream(client: AsyncOpenAI, simulated: Control) -> None:
    mine = {"mine": {"deep": [1, 2.50, None]}, "top_k": 40}
    await ask(client, extra_body=mine)
    assert {key: sent(simulated)[key] for key in mine} == mine


ODD = (
    b'{ "note":"\\u00e9\\/", "big":12345678901234567890123, "float":1.50e0,\n'
    b'\t"messages" :[{"role":"user","content":"say \\"model\\": \\"auto\\""}], "model":"auto" ,'
    b'"nested":{"model":"auto","stream":true},"temperature":1.0 }'
)


async def test_the_body_is_byte_faithful_but_for_the_model(
    standard: Gateway, simulated: Control
) -> None:
    assert standard.chat(content=ODD).status_code == 200
    got = simulated.log()[-1]["body"].encode()
    assert got == ODD.replace(b'"model":"auto" ,', b'"model":"up-small" ,')


async def test_the_answer_is_byte_faithful_but_for_the_model(standard: Gateway) -> None:
    raw = ' {"id":"x","object":"chat.completion", "model" : "up-small","n":1.50, "choices":[]}\n'
    answer = standard.chat(x_simulate={"raw_sse": [raw]})
    assert answer.text == raw.replace("up-small", "small")


async def test_the_clients_key_stays_here_and_the_gateways_goes_out(
    client: AsyncOpenAI, simulated: Control
) -> None:
    await ask(client)
    headers = dict(simulated.log()[-1]["headers"])
    assert headers["authorization"] == "Bearer secret-of-the-gateway"
    assert "sk-of-the-client" not in str(headers)


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/evil", "https://example.com/v1"])
async def test_a_client_cannot_choose_the_upstreams_address(
    client: AsyncOpenAI, simulated: Control, base: str
) -> None:
    answer = await ask(client, extra_body={"base_url": base, "api_base": base})
    assert answer.model == "small"
    assert len(simulated.log()) == 1
