"""Limits over the real gateway: they hold under concurrency, and every way out gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, eventually
from tests.gateway.limited import ask_many, costs, limited, most_usd, plain

USER: Any = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_two_hundred_at_once_on_a_budget_for_twenty(
    gateway: Serve, simulated: Control, stream: bool
) -> None:
    """With `max_tokens` nothing is overrun, though every answer costs all that it may."""
    content = plain(100, stream=stream)
    budget = 20 * most_usd(100, stream=stream) + 1e-6
    served = gateway(limited(f"usd_in_all: {budget:.9f}", f"stream {stream}"))
    usage = {"prompt_tokens": len(content), "completion_tokens": 100}
    simulated.script(times=None, delay_seconds=0.3, usage=usage)
    answers = await ask_many(served, 200, content)
    good = [one for one in answers if one.status_code == 200]
    refused = [one.json()["error"]["code"] for one in answers if one.status_code == 429]
    assert (len(good), len(refused)) == (20, 180)
    assert set(refused) == {"policy_budget_reserved"}
    eventually(lambda: served.metric("pointsman_requests_in_flight") == 0)
    assert 0.95 * budget < served.metric("pointsman_cost_dollars_total") <= budget
    # Now the money is spent, not reserved.
    last = served.chat(content=content)
    assert last.json()["error"]["code"] == "policy_budget_exhausted"


async def test_without_max_tokens_the_overrun_is_what_answers_are_too_long(
    gateway: Serve, simulated: Control
) -> None:
    """The stated bound: what answers cost beyond 4,096 tokens, or the model's own end."""
    text = limited("usd_in_all: 0.02", "").replace("    max_output: 1000\n", "")
    served = gateway(text)
    usage = {"prompt_tokens": 90, "completion_tokens": 10_096}
    simulated.script(times=None, delay_seconds=0.3, usage=usage)
    answers = await ask_many(
        served, 200, b'{"model":"auto","messages":[{"role":"user","content":"Hi"}]}'
    )
    good = [one for one in answers if one.status_code == 200]
    assert len(good) == int(0.02 // (4096 * 0.4e-6 + 62 * 0.1e-6))
    assert costs(good) <= 0.02 + len(good) * 6_000 * 0.4e-6


def test_what_a_budget_says(gateway: Serve, simulated: Control) -> None:
    served = gateway(limited("usd_per_day: 0.0001, soft_share: 0.5", "said"))
    simulated.script(times=None, usage={"prompt_tokens": 10, "completion_tokens": 150})
    first = served.chat(max_tokens=150)
    assert "x-pointsman-budget-warning" not in first.headers
    second = served.chat(max_tokens=50)
    assert second.headers["x-pointsman-budget-warning"] == "route:auto usd_per_day 0.61"
    assert served.metric("pointsman_budget_warnings_total", scope="route") == 1
    refused = served.chat(max_tokens=150)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (429, "insufficient_quota")
    assert error["code"] == "policy_budget_exhausted"
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["x-pointsman-limit"] == "route:auto usd_per_day"
    assert refused.headers["x-pointsman-route"] == "auto"
    assert served.metric("pointsman_limit_refusals_total", scope="route", kind="budget") == 1
    assert served.metric("pointsman_requests_total", code="429") == 1
    assert served.chat(model="small", max_tokens=150).status_code == 200, "pinned: not the route's"


async def test_the_sdk_waits_for_a_rate(gateway: Serve, simulated: Control) -> None:
    served = gateway(limited("requests_per_minute: 60"))
    async with served.client(max_retries=3) as client:
        create: Any = client.chat.completions.with_raw_response.create
        answers = [await create(model="auto", messages=USER) for _ in range(60)]
        left = [int(one.headers["x-ratelimit-remaining-requests"]) for one in answers]
        assert left[0] == 59
        assert left[-1] <= 3
        assert answers[0].headers["x-ratelimit-limit-requests"] == "60"
        assert answers[0].headers["x-ratelimit-reset-requests"] == "1s"
        impatient = client.with_options(max_retries=0).chat.completions
        asking = (impatient.create(model="auto", messages=USER) for _ in range(10))
        answers = await asyncio.gather(*asking, return_exceptions=True)
        refused = next(one for one in answers if isinstance(one, openai.RateLimitError))
        raw = refused.response
        assert (raw.headers["retry-after"], raw.headers["x-ratelimit-remaining-requests"]) == (
            "1",
            "0",
        )
        # One a second flows back, and the SDK asks again when it was told to.
        assert (await create(model="auto", messages=USER)).parse().choices


async def test_no_more_at_once(gateway: Serve, simulated: Control) -> None:
    served = gateway(limited("parallel_requests: 5"))
    simulated.script(times=None, delay_seconds=0.5)
    answers = await ask_many(served, 40, plain(10))
    assert sorted(one.status_code for one in answers) == [200] * 5 + [429] * 35
    codes = {one.json()["error"]["code"] for one in answers if one.status_code == 429}
    assert codes == {"policy_too_many_at_once"}
    assert (await ask_many(served, 5, plain(10)))[0].status_code == 200


def leave(served: Gateway, stream: bool, **simulate: Any) -> None:
    """Ask, and hang up after three tenths of a second."""
    fields = {"model": "auto", "messages": USER, "stream": stream, "x_simulate": simulate}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{served.url}/v1/chat/completions", json=fields, timeout=0.3)


WAYS: dict[str, Callable[[Gateway], Any]] = {
    "success": lambda served: served.chat(),
    "stream": lambda served: served.chat(stream=True),
    "refused by the upstream": lambda served: served.chat(x_simulate={"status": 400}),
    "every model failed": lambda served: served.chat(x_simulate={"status": 500}),
    "the upstream's time is over": lambda served: served.chat(x_simulate={"delay_seconds": 60}),
    "cut before the head": lambda served: served.chat(x_simulate={"cut_before_head": True}),
    "stream cut": lambda served: served.chat(stream=True, x_simulate={"cut_after_chunks": 3}),
    "stream stalled": lambda served: served.chat(stream=True, x_simulate={"stall_after_chunks": 2}),
    "malformed": lambda served: served.chat(x_simulate={"malformed": True}),
    "left before the head": lambda served: leave(served, False, delay_seconds=60),
    "left before the first byte": lambda served: leave(served, True, first_byte_delay_seconds=60),
    "left in mid-stream": lambda served: leave(served, True, stall_after_chunks=2),
    "no model can serve it": lambda served: served.chat(max_tokens=10**9),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_frees_the_slot_and_the_money(
    gateway: Serve, simulated: Control, way: str
) -> None:
    """One slot, and room for one reservation that costs nothing once it is settled."""
    served = gateway(limited("parallel_requests: 1, usd_in_all: 1000", patience=1))
    WAYS[way](served)
    eventually(lambda: served.metric("pointsman_requests_in_flight") == 0)
    assert served.chat().status_code == 200


def test_a_client_cannot_spend_by_leaving(gateway: Serve, simulated: Control) -> None:
    """What an upstream may charge for and never reported stays as reserved."""
    served = gateway(limited(f"usd_in_all: {2 * most_usd(100):.9f}", "leaving"))
    simulated.script(times=None, delay_seconds=60)
    for _ in range(2):
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{served.url}/v1/chat/completions", content=plain(100), timeout=0.2)
    eventually(lambda: served.metric("pointsman_requests_in_flight") == 0)
    simulated.clear()
    assert served.chat(content=plain(100)).json()["error"]["code"] == "policy_budget_exhausted"


def test_a_fallback_that_is_too_dear_is_left_out(gateway: Serve, simulated: Control) -> None:
    """Room for `small` and `medium`, not for `large`; what failed is not charged."""
    served = gateway(limited("usd_in_all: 0.0015", "fallback"))
    simulated.script("up-small", times=None, status=503)
    assert served.chat(content=plain(100)).json()["model"] == "medium"
    simulated.script("up-medium", times=None, status=503)
    refused = served.chat(content=plain(100))
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_server_error")
    assert [one["model"] for one in simulated.log()][-2:] == ["up-small", "up-medium"]


LOW = """
upstreams: {{sim: {{kind: openai, base_url: {upstream}}}}}
models:
  small: {{upstream: sim, prices: {{input: 0.1, output: 0.4}}, quality: 0.7}}
  large: {{upstream: sim, prices: {{input: 5, output: 20}}, quality: 0.9}}
routes:
  auto:
    candidates: [small, large]
    router: null
    objective: {{kind: quality, keep: 1.0}}
    limits: {{usd_per_day: 0.01, soft_share: 0.5}}
    when_budget_low: {{objective: {{kind: quality, keep: 0.5}}}}
"""


def test_a_cheaper_objective_when_the_budget_is_low(gateway: Serve, simulated: Control) -> None:
    served = gateway(LOW)
    simulated.script(times=None, usage={"prompt_tokens": 10, "completion_tokens": 150})
    models = [served.chat(max_tokens=200).json()["model"] for _ in range(6)]
    # An answer of `large` costs .00305; with two the budget is past half.
    assert models == ["large"] * 2 + ["small"] * 4
    said = served.http.post("/v1/decision", json={"model": "auto", "messages": USER}).json()
    assert (said["model"], said["objective"]["keep"]) == ("small", 0.5)


def test_a_cheaper_objective_where_the_budget_has_no_room(
    gateway: Serve, simulated: Control
) -> None:
    served = gateway(LOW.replace("0.01,", "0.0101,"))
    assert served.chat(max_tokens=600).json()["model"] == "small"
    assert served.chat(max_tokens=100).json()["model"] == "large"
