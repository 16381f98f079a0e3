"""Every error reaches the SDK as the exception it would raise for the provider itself."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import MODELS, Gateway, Serve, free_port

USER: Any = [{"role": "user", "content": "Hello"}]

HASTY = (
    """
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    timeouts: {{connect_seconds: 1, first_byte_seconds: 0.3, idle_seconds: 0.3, total_seconds: 1}}
models:"""
    + MODELS
)


async def ask(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(**{"model": "auto", "messages": USER, **fields})


async def test_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(client, model="smal")
    assert caught.value.code == "caller_unknown_model"
    assert caught.value.param == "model"
    assert "small" in str(caught.value)
    assert caught.value.response.headers["x-pointsman-request-id"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"model": ""}, "model"),
    ],
)
async def test_a_wrong_field_is_named(
    client: AsyncOpenAI, simulated: Control, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, **fields)
    assert caught.value.code == "caller_invalid_field"
    assert caught.value.param == param
    assert simulated.log() == []


async def test_what_an_upstream_refuses_reaches_the_client_as_it_is(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, n=129)
    assert caught.value.param == "n"
    assert "at most 128" in str(caught.value)


async def test_a_422_stays_a_422(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script(status=422)
    with pytest.raises(openai.UnprocessableEntityError):
        await ask(client)
    assert len(simulated.log()) == 1


async def test_no_eligible_model_says_why_of_each(gateway: Serve) -> None:
    text = """
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models:
  blind: {{upstream: sim, capabilities: [tools]}}
  tiny: {{upstream: sim, context_window: 16}}
routes: {{auto: {{candidates: [blind, tiny], router: null}}}}
"""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with gateway(text).client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(client, messages=[{"role": "user", "content": [image]}])
    assert caught.value.code == "caller_no_eligible_model"
    assert "blind: lacks_vision" in str(caught.value)
    assert "tiny: context_too_small" in str(caught.value)


async def test_rate_limited_everywhere(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script(times=None, status=429, headers={"Retry-After": "7"})
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "upstream_rate_limited"
    assert len(simulated.log()) == 3


async def test_failed_everywhere(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script(times=None, status=503, error="<html>secret inside</html>")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client)
    assert caught.value.status_code == 502
    assert caught.value.code == "upstream_server_error"
    assert "secret" not in caught.value.response.text
    assert caught.value.response.headers["x-pointsman-route"] == "auto"


@pytest.mark.parametrize("status", [401, 403])
async def test_the_gateways_own_key_is_not_the_clients_affair(
    client: AsyncOpenAI, simulated: Control, status: int
) -> None:
    error = {"error": {"message": "Incorrect API key provided: secret-of-the-gateway."}}
    simulated.script(times=None, status=status, error=error)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client)
    assert caught.value.code == "upstream_rejected_key"
    assert "secret-of-the-gateway" not in caught.value.response.text


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_too_slow_to_begin(gateway: Serve, stream: bool) -> None:
    simulate = {"x_simulate": {"delay_seconds": 30}}
    async with gateway(HASTY).client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(client, model="small", stream=stream, extra_body=simulate)
    assert caught.value.status_code == 504
    assert caught.value.code == "upstream_timeout"


async def test_a_stream_whose_first_event_does_not_come(gateway: Serve) -> None:
    simulate = {"x_simulate": {"first_byte_delay_seconds": 30}}
    async with gateway(HASTY).client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(client, model="small", stream=True, extra_body=simulate)
    assert caught.value.status_code == 504


async def test_an_upstream_that_falls_silent_in_the_middle(gateway: Serve) -> None:
    simulate = {"x_simulate": {"stall_after_chunks": 2}}
    async with gateway(HASTY).client() as client:
        answer = await ask(client, model="small", stream=True, extra_body=simulate)
        with pytest.raises(openai.APIError) as caught:
            [chunk async for chunk in answer]
    assert caught.value.code == "upstream_timeout"


async def test_an_answer_that_drips_beyond_the_total_time(gateway: Serve) -> None:
    simulate = {"x_simulate": {"chunks": 100, "chunk_delay_seconds": 0.1}}
    async with gateway(HASTY).client() as client:
        answer = await ask(client, model="small", stream=True, extra_body=simulate)
        with pytest.raises(openai.APIError) as caught:
            [chunk async for chunk in answer]
    assert caught.value.code == "upstream_timeout"


async def test_the_clients_own_timeout(client: AsyncOpenAI) -> None:
    simulate = {"x_simulate": {"delay_seconds": 30}}
    with pytest.raises(openai.APITimeoutError):
        await ask(client, timeout=0.2, extra_body=simulate)


async def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        with pytest.raises(openai.APIConnectionError):
            await ask(client)


@pytest.mark.parametrize(
    "behaviour",
    [
        {"raw_sse": ['{"choices": [{"index']},
        {"raw_sse": ["[]"]},
        {"raw_sse": ["{}"]},
        {"raw_sse": ["\xff\x00"]},
        {"raw_sse": [""]},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
        {"status": 204, "error": ""},
        {"cut_after_bytes": 40},
        {"cut_before_head": True},
        {"headers": {"content-encoding": "gzip"}},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_talks_nonsense(
    client: AsyncOpenAI, simulated: Control, behaviour: dict[str, Any], stream: bool
) -> None:
    simulated.script(times=None, **behaviour)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, model="small", stream=stream)
    assert caught.value.status_code == 502
    assert (caught.value.code or "").startswith("upstream_")


@pytest.mark.parametrize(
    "events",
    [
        ["data: [DONE]\n\n"],
        ['data: {"error": {"message": "no", "type": "server_error"}}\n\n'],
        [": only comments\n\n"],
        ["data: nonsense\n\n"],
        ["no event at all"],
        ["\n\n\n\n"],
    ],
)
async def test_a_stream_that_never_begins(
    client: AsyncOpenAI, simulated: Control, events: list[str]
) -> None:
    simulated.script(times=None, raw_sse=events)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, model="small", stream=True)
    assert caught.value.code == "upstream_malformed"


def test_unknown_path_and_method(standard: Gateway) -> None:
    path = standard.http.get("/v1/nothing")
    assert (path.status_code, path.json()["error"]["code"]) == (404, "caller_unknown_path")
    method = standard.http.get("/v1/chat/completions")
    assert (method.status_code, method.json()["error"]["code"]) == (
        405,
        "caller_method_not_allowed",
    )
    assert "POST" in method.headers["allow"]
