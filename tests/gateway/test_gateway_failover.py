"""Before the first byte a failed attempt is invisible: the next model of the plan answers, once."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, free_port

USER: Any = [{"role": "user", "content": "Hello"}]

FAULTS: list[dict[str, Any]] = [
    {"status": 408},
    {"status": 409},
    {"status": 429, "headers": {"Retry-After": "60"}},
    {"status": 500},
    {"status": 503},
    {"status": 529, "error": {"type": "error", "error": {"type": "overloaded_error"}}},
    {"status": 401},
    {"status": 404},
    {"cut_before_head": True},
    {"cut_after_bytes": 0},
]


def models_asked(simulated: Control) -> list[str]:
    return [exchange["model"] for exchange in simulated.log()]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(map(str, fault.items()))[:30])
async def test_the_next_model_answers(
    client: AsyncOpenAI, simulated: Control, fault: dict[str, Any], stream: bool
) -> None:
    simulated.script("up-small", times=None, **fault)
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=USER, stream=stream
    )
    assert raw.headers["x-pointsman-model"] == "medium"
    assert raw.headers["x-pointsman-decision"] == "fallback"
    answer: Any = raw.parse()
    served = {chunk.model async for chunk in answer} if stream else {answer.model}
    assert served == {"medium"}
    # A break on a kept connection may be its closing while idle: sending again is right.
    asked = models_asked(simulated)
    assert list(dict.fromkeys(asked)) == ["up-small", "up-medium"]
    assert len(asked) == 2 or "cut_before_head" in fault


async def test_a_stream_cut_before_its_first_event(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script("up-small", cut_after_bytes=20)
    simulated.script("up-medium", malformed=False, raw_sse=["data: {bro\n\n"])
    answer = await client.chat.completions.create(model="auto", messages=USER, stream=True)
    assert {chunk.model async for chunk in answer} == {"large"}


async def test_a_plain_answer_cut_in_the_middle(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script("up-small", cut_after_bytes=100)
    simulated.script("up-medium", malformed=True)
    answer = await client.chat.completions.create(model="auto", messages=USER)
    assert answer.model == "large"
    assert models_asked(simulated) == ["up-small", "up-medium", "up-large"]


async def test_a_refused_request_is_not_taken_elsewhere(
    client: AsyncOpenAI, simulated: Control
) -> None:
    simulated.script("up-small", status=400)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="auto", messages=USER)
    assert models_asked(simulated) == ["up-small"]


async def test_a_pinned_model_does_not_move_on(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script("up-small", status=503)
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="small", messages=USER)
    assert models_asked(simulated) == ["up-small"]


async def test_never_to_a_model_that_cannot_serve(client: AsyncOpenAI, simulated: Control) -> None:
    simulated.script("up-medium", times=None, status=503)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: Any = [{"role": "user", "content": [image]}]
    answer = await client.chat.completions.create(model="auto", messages=messages)
    assert answer.model == "large"
    assert models_asked(simulated) == ["up-medium", "up-large"]


async def test_every_attempt_is_made_from_the_original(
    standard: Gateway, simulated: Control
) -> None:
    simulated.script("up-small", status=500)
    simulated.script("up-medium", status=500)
    original = b'{"messages": [{"role":"user","content":"Hi"}], "model": "auto", "x":1.0}'
    assert standard.chat(content=original).json()["model"] == "large"
    bodies = [exchange["body"].encode() for exchange in simulated.log()]
    assert bodies == [
        original.replace(b'"auto"', f'"up-{name}"'.encode())
        for name in ("small", "medium", "large")
    ]


async def test_attempts_and_responses_are_counted_apart(
    standard: Gateway, simulated: Control
) -> None:
    def counts() -> list[float]:
        attempts = "pointsman_upstream_attempts_total"
        return [
            standard.metric(attempts, model="small", outcome="server_error"),
            standard.metric(attempts, model="medium", outcome="ok"),
            standard.metric("pointsman_requests_total", model="medium", decision="fallback"),
        ]

    before = counts()
    simulated.script("up-small", status=500)
    standard.chat()
    assert [now - was for now, was in zip(counts(), before, strict=True)] == [1, 1, 1]


async def test_an_upstream_that_is_not_there(gateway: Serve) -> None:
    text = f"""
upstreams:
  gone: {{{{kind: openai, base_url: "http://127.0.0.1:{free_port()}/v1"}}}}
  sim: {{{{kind: openai, base_url: "{{upstream}}"}}}}
models:
  away: {{{{upstream: gone, quality: 0.8, prices: {{{{input: 0, output: 0}}}}}}}}
  here: {{{{upstream: sim, quality: 0.8, prices: {{{{input: 1, output: 1}}}}}}}}
routes:
  auto: {{{{candidates: [away, here], router: null, objective: {{{{kind: quality, keep: 0.5}}}}}}}}
"""
    one = gateway(text)
    async with one.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=USER)
        assert raw.parse().model == "here"
        assert raw.headers["x-pointsman-decision"] == "fallback"
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="away", messages=USER)
    assert caught.value.code == "upstream_unreachable"
    assert "127.0.0.1" not in caught.value.response.text


async def test_fallbacks_come_after_the_candidates(gateway: Serve, simulated: Control) -> None:
    text = """
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models:
  first: {{upstream: sim, prices: {{input: 1, output: 1}}}}
  last: {{upstream: sim, prices: {{input: 0, output: 0}}}}
routes: {{auto: {{candidates: [first], fallbacks: [last], router: null}}}}
"""
    simulated.script("first", status=500)
    async with gateway(text).client() as client:
        answer = await client.chat.completions.create(model="auto", messages=USER)
    assert answer.model == "last"
    assert models_asked(simulated) == ["first", "last"]
