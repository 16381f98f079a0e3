"""What a request costs, over the real gateway: streamed or not, cut short, failed over."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, eventually

USER: Any = [{"role": "user", "content": "Hello"}]
PRICED = """
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    timeouts: {{first_byte_seconds: 0.5}}
models:
  full:
    upstream: sim
    prices:
      - {{input: 100, output: 100}}
      - from: 2026-01-01
        input: 2.50
        cached_input: 1.25
        cache_write: 3.00
        output: 10
        reasoning: 4
        audio_input: 40
        audio_output: 80
        per_request: 0.001
        tiers: [{{above_tokens: 5000, input: 5, output: 20}}]
        service_tiers: {{flex: {{input: 1, output: 5}}}}
  first: {{upstream: sim, quality: 0.8, prices: {{input: 1, output: 1}}}}
  second: {{upstream: sim, quality: 0.8, prices: {{input: 2, output: 2}}}}
routes:
  auto: {{candidates: [first, second], router: null, objective: {{kind: quality, keep: 0.5}}}}
"""
USAGES = [
    {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 200},
        "completion_tokens_details": {"reasoning_tokens": 90},
    },
    {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1300,
        "prompt_tokens_details": {"audio_tokens": 900},
        "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 150},
        "cost": 12.5,
    },
    {"prompt_tokens": 5001, "completion_tokens": 7, "total_tokens": 5008},
]
# By hand, in nano-dollars; each with the fee of a million.
COSTS = [
    1_000_000 + 100 * 2500 + 10 * 10_000,
    1_000_000 + 500 * 2500 + 300 * 1250 + 200 * 3000 + 110 * 10_000 + 90 * 4000,
    1_000_000 + 100 * 2500 + 900 * 40_000 + 50 * 10_000 + 100 * 4000 + 150 * 80_000,
    1_000_000 + 5001 * 5000 + 7 * 20_000,
]


def nano(one: Gateway, **labels: str) -> float:
    return one.metric("pointsman_cost_dollars_total", **labels) * 1e9


@pytest.mark.parametrize(("usage", "cost"), [*zip(USAGES, COSTS, strict=True)], ids=range(4))
def test_a_stream_costs_what_the_whole_answer_does(
    gateway: Serve, usage: dict[str, Any], cost: int
) -> None:
    one = gateway(PRICED)
    answer = one.chat(model="full", x_simulate={"usage": usage})
    assert float(answer.headers["x-pointsman-cost-usd"]) * 1e9 == pytest.approx(cost)
    before = nano(one, model="full")
    tokens = one.metric("pointsman_tokens_total", model="full")
    assert one.chat(model="full", stream=True, x_simulate={"usage": usage}).status_code == 200
    eventually(lambda: nano(one, model="full") > before)
    assert nano(one, model="full") - before == pytest.approx(cost)
    assert one.metric("pointsman_tokens_total", model="full") > tokens


@pytest.mark.parametrize("stream", [False, True])
def test_the_service_tier_is_the_one_that_served(gateway: Serve, stream: bool) -> None:
    one = gateway(PRICED)
    before = nano(one, model="full")
    unpriced = one.metric("pointsman_unpriced_requests_total", model="full")
    fields: dict[str, Any] = {"stream": stream, "x_simulate": {"usage": USAGES[0]}}
    one.chat(model="full", service_tier="flex", **fields)
    eventually(lambda: nano(one, model="full") > before)
    spent = nano(one, model="full") - before
    assert spent == pytest.approx(1_000_000 + 100 * 1000 + 10 * 5000)
    answer = one.chat(model="full", service_tier="scale", **fields)
    assert "x-pointsman-cost-usd" not in answer.headers
    eventually(
        lambda: one.metric("pointsman_unpriced_requests_total", model="full") == unpriced + 1
    )
    assert nano(one, model="full") - before == pytest.approx(spent)
    log = one.new_log()
    assert log.count("set its `prices.service_tiers.scale`") <= 1


async def test_a_stream_that_the_client_left_is_estimated(
    gateway: Serve, simulated: Control
) -> None:
    one = gateway(PRICED)
    before = nano(one, model="first")
    estimated = one.metric("pointsman_estimated_requests_total", model="first")
    text = "word " * 2000
    async with one.client() as client:
        await leave(client, text)
    eventually(
        lambda: one.metric("pointsman_estimated_requests_total", model="first") == estimated + 1
    )
    spent = nano(one, model="first") - before
    # A few tokens of prompt, and at most the whole text at a dollar a million.
    assert 3 * 1000 < spent < 2600 * 1000


async def leave(client: AsyncOpenAI, text: str) -> None:
    stream = await client.chat.completions.create(
        model="first",
        messages=USER,
        stream=True,
        extra_body={"x_simulate": {"text": text, "chunks": 2000, "chunk_delay_seconds": 0.005}},
    )
    events = aiter(stream)
    for _ in range(20):
        await anext(events)
    await stream.close()


def test_a_stream_that_the_upstream_cut_is_estimated(gateway: Serve) -> None:
    one = gateway(PRICED)
    before = nano(one, model="first")
    simulate = {"text": "abcd " * 300, "chunks": 300, "cut_after_chunks": 101}
    answer = one.chat(model="first", stream=True, x_simulate=simulate)
    received = sum(map(len, re.findall(r'"content":"([^"]*)"', answer.text)))
    assert received > 100
    eventually(lambda: nano(one, model="first") > before)
    # "Hello" and its frame are six tokens.
    assert nano(one, model="first") - before == pytest.approx((6 + -(-received // 4)) * 1000)


def test_a_failed_attempt_is_booked_to_the_request_that_caused_it(
    gateway: Serve, simulated: Control
) -> None:
    one = gateway(PRICED)
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    simulated.script("first", status=500)
    simulated.script("second", usage=usage)
    answer = one.http.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": USER},
        headers={"x-pointsman-debug": "true"},
    )
    assert answer.headers["x-pointsman-cost-usd"] == "0.00004"
    assert "x-pointsman-cost-estimated" not in answer.headers
    simulated.script("first", delay_seconds=2)
    simulated.script("second", usage=usage)
    answer = one.http.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": USER},
        headers={"x-pointsman-debug": "true"},
    )
    assert answer.headers["x-pointsman-model"] == "second"
    assert answer.headers["x-pointsman-cost-estimated"] == "true"
    # Six tokens of prompt had been sent to `first`.
    assert answer.headers["x-pointsman-cost-usd"] == "0.000046"
    assert answer.headers["x-pointsman-saved-usd"] == "-0.000006"


def test_what_a_request_without_an_answer_cost_is_not_saved(
    gateway: Serve, simulated: Control
) -> None:
    one = gateway(PRICED)

    def net() -> float:
        sides = ("saved", "overspent")
        saved, overspent = (one.metric(f"pointsman_{side}_dollars_total") for side in sides)
        return (saved - overspent) * 1e9

    spent, saved = nano(one), net()
    simulated.script("first", delay_seconds=2)
    simulated.script("second", status=500)
    answer = one.http.post("/v1/chat/completions", json={"model": "auto", "messages": USER})
    # Six tokens of prompt had been sent to `first`, which did not answer in time.
    assert answer.status_code == 502
    assert answer.headers["x-pointsman-cost-usd"] == "0.000006"
    assert answer.headers["x-pointsman-saved-usd"] == "-0.000006"
    assert nano(one) - spent == pytest.approx(6_000)
    assert net() - saved == pytest.approx(-6_000)

    def of_the_ledger() -> dict[str, str]:
        told = one.http.get("/dashboard/data/overview", params={"range": "15m"}).json()
        return {model["name"]: model["saved_usd"] for model in told["models"]}

    eventually(lambda: of_the_ledger().get("none") == "-0.000006")
    assert sum(map(float, of_the_ledger().values())) * 1e9 == pytest.approx(net())
