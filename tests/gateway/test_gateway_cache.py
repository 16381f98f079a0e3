"""Answers from the cache as clients meet them: the same, at no cost, and no upstream asked."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body, eventually
from tests.gateway.test_gateway_ledger import row

COLD = {"temperature": 0}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('cache')}/ledger.db"


@pytest.fixture
def caching(gateway: Serve, url: str) -> Gateway:
    ledger = f"ledger: {{{{url: '{url}', keep_prompt_text: true}}}}\n"
    uncached = "  plain: {{candidates: [small], router: null, cache: false}}\n"
    return gateway(STANDARD + uncached + "cache: {{kind: semantic, scope: all}}\n" + ledger)


def question(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **COLD, **fields}


def test_a_hit_costs_nothing_and_is_booked_as_saved(
    caching: Gateway, simulated: Control, url: str
) -> None:
    first = caching.chat(**question("What is a semaphore?"))
    assert first.headers["x-pointsman-cache"] == "miss"
    assert "age" not in first.headers
    again = caching.chat(**question("What is a semaphore?"))
    assert again.content == first.content
    told = again.headers
    assert (told["x-pointsman-cache"], told["x-pointsman-decision"]) == ("hit", "cached")
    assert (told["x-pointsman-model"], told["x-pointsman-cost-usd"]) == ("small", "0")
    assert int(told["age"]) >= 0
    paid = float(first.headers["x-pointsman-cost-usd"])
    spared = float(first.headers["x-pointsman-saved-usd"])
    assert float(told["x-pointsman-saved-usd"]) == pytest.approx(paid + spared)
    assert len(simulated.log()) == 1
    assert caching.metric("pointsman_cache_requests_total", route="auto", result="hit") >= 1
    assert caching.metric("pointsman_cache_entries") >= 1
    booked = row(url, again)
    assert (booked["decision"], booked["reason"]) == ("cached", "cache_exact")
    assert (booked["cost_nano"], booked["saved_nano"] / 1e9) == (0, pytest.approx(paid + spared))
    assert (booked["attempts"], booked["output_tokens"], booked["status"]) == ([], None, 200)


def test_a_similar_question_and_one_that_only_looks_so(
    caching: Gateway, simulated: Control
) -> None:
    first = caching.chat(**question("How do I sort a list in Python?"))
    eventually(
        lambda: (
            caching.chat(**question("How do I sort a list in Python")).headers["x-pointsman-cache"]
            == "hit"
        )
    )
    asked = {"x-pointsman-debug": "true"}
    similar = caching.http.post(
        "/v1/chat/completions",
        json=body(**question("Please, how do I sort a list in Python?")),
        headers=asked,
    )
    assert similar.headers["x-pointsman-cache-reason"] == "similar"
    assert float(similar.headers["x-pointsman-cache-similarity"]) >= 0.95
    assert similar.content == first.content
    before = len(simulated.log())
    for other in ("How do I sort a list in Java?", "How do I not sort a list in Python?"):
        assert caching.chat(**question(other)).headers["x-pointsman-cache"] == "miss"
    assert len(simulated.log()) == before + 2


async def test_streams_replay_as_streams(caching: Gateway, simulated: Control) -> None:
    async with caching.client() as client:
        messages: Any = [{"role": "user", "content": "Tell me of trains."}]

        async def stream(**fields: Any) -> list[Any]:
            made = await client.chat.completions.create(
                model="auto", messages=messages, temperature=0, stream=True, **fields
            )
            return [chunk async for chunk in made]

        first, again = await stream(), await stream()
        assert [chunk.model_dump() for chunk in again] == [chunk.model_dump() for chunk in first]
        with_usage = await stream(stream_options={"include_usage": True})
        assert with_usage[-1].usage.completion_tokens > 0
        whole = await client.chat.completions.create(model="auto", messages=messages, temperature=0)
        text = "".join(c.choices[0].delta.content or "" for c in first if c.choices)
    assert whole.choices[0].message.content == text
    assert whole.usage == with_usage[-1].usage
    assert len(simulated.log()) == 1


async def test_only_if_cached(caching: Gateway, simulated: Control) -> None:
    async with caching.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": "Never asked"}],
                temperature=0,
                extra_headers={"cache-control": "only-if-cached"},
            )
    assert caught.value.status_code == 504
    assert caught.value.code == "caller_not_cached"
    wrong = caching.http.post(
        "/v1/chat/completions", json=body(), headers={"cache-control": "max-age=soon"}
    )
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "cache-control")
    assert simulated.log() == []


def test_what_is_not_cached(caching: Gateway, simulated: Control) -> None:
    result = [
        caching.chat(**question("Once", **fields)).headers["x-pointsman-cache"]
        for fields in ({"temperature": 1}, {"model": "plain"}, {"model": "plain"})
    ]
    assert result == ["bypass"] * 3
    simulated.script(status=500, times=None)
    for _ in range(2):
        failed = caching.chat(**question("Fails"))
        assert (failed.status_code, failed.headers["x-pointsman-cache"]) == (502, "miss")


def test_a_model_by_its_name_saves_its_own_price(caching: Gateway) -> None:
    first = caching.chat(**question("By name", model="large"))
    again = caching.chat(**question("By name", model="large"))
    assert again.headers["x-pointsman-saved-usd"] == first.headers["x-pointsman-cost-usd"]


def test_requests_a_minute_count_hits_and_budgets_do_not(
    gateway: Serve, simulated: Control
) -> None:
    limits = "limits: {{requests_per_minute: 3, usd_per_day: 0.01, parallel_requests: 1}}\n"
    served = gateway(STANDARD + "cache: {{kind: exact}}\n" + limits)
    answers = [served.chat(**question("Thrice")) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert [one.headers.get("x-pointsman-cache") for one in answers[:3]] == ["miss", "hit", "hit"]
    assert len(simulated.log()) == 1


def test_nothing_is_said_of_a_cache_that_is_not_there(standard: Gateway) -> None:
    answers = [standard.chat(**question("Off")) for _ in range(2)]
    assert all("x-pointsman-cache" not in one.headers for one in answers)
