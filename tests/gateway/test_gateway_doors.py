"""The doors beside chat: models, decisions, probes, metrics."""

from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, NotFoundError

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, body


async def test_models_lists_routes_and_models(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names[:2] == ["auto", "smart"]
    assert set(names) == {"auto", "smart", "small", "medium", "large"}


async def test_one_model(client: AsyncOpenAI) -> None:
    assert (await client.models.retrieve("small")).owned_by == "pointsman"
    with pytest.raises(NotFoundError):
        await client.models.retrieve("nothing")


def decide(gateway: Gateway, path: str = "/v1/decision", **fields: Any) -> httpx2.Response:
    return gateway.http.post(path, json=body(**fields))


def test_a_decision_names_the_choice_its_plan_and_every_candidate(
    standard: Gateway, simulated: Control
) -> None:
    answer = decide(standard)
    said = answer.json()
    assert answer.status_code == 200
    assert said["model"] == "small"
    assert said["plan"] == ["small", "medium", "large"]
    assert said["baseline"] == "large"
    for candidate in said["candidates"]:
        assert candidate["eligible"]
        assert candidate["quality_low"] <= candidate["quality"] <= candidate["quality_high"]
    assert simulated.log() == []


def test_a_decision_says_why_a_candidate_is_out(standard: Gateway) -> None:
    said = decide(standard, logprobs=True, max_tokens=2000).json()
    small = next(one for one in said["candidates"] if one["model"] == "small")
    assert not small["eligible"]
    assert set(small["reasons"]) == {"lacks_logprobs", "output_too_small"}
    assert said["model"] == "medium"


@pytest.mark.parametrize("model", ["auto", "small", "router-knn-0.4"])
def test_the_chat_door_decides_the_same(standard: Gateway, model: str) -> None:
    decided = decide(standard, model=model).json()
    served = standard.chat(model=model)
    assert decided["model"] == served.json()["model"] == served.headers["x-pointsman-model"]
    assert decided["decision"] == served.headers["x-pointsman-decision"]


def test_a_wrong_decision_request_is_refused_as_chat_would(standard: Gateway) -> None:
    answer = decide(standard, messages=[])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"
    assert decide(standard, model="nothing").status_code == 404
    assert decide(standard, path="/v1/decision?neighbours=x").status_code == 400
    broken = standard.http.post("/v1/decision", content=b"{")
    assert broken.json()["error"]["code"] == "caller_invalid_json"


def test_probes(standard: Gateway) -> None:
    for path in ("/livez", "/readyz"):
        assert standard.http.get(path).status_code == 200


def test_metrics_add_up(standard: Gateway) -> None:
    names = [
        "pointsman_requests_total",
        "pointsman_decisions_total",
        "pointsman_request_duration_seconds_count",
        "pointsman_overhead_seconds_count",
        "pointsman_cost_dollars_total",
        "pointsman_saved_dollars_total",
        "pointsman_tokens_total",
    ]

    def read() -> dict[str, float]:
        return {name: standard.metric(name) for name in names}

    before = read()
    answers = [standard.chat() for _ in range(3)]
    grown = {name: value - before[name] for name, value in read().items()}
    assert {grown[name] for name in names[:4]} == {3}
    cost = sum(float(answer.headers["x-pointsman-cost-usd"]) for answer in answers)
    saved = sum(float(answer.headers["x-pointsman-saved-usd"]) for answer in answers)
    assert grown["pointsman_cost_dollars_total"] == pytest.approx(cost)
    assert grown["pointsman_saved_dollars_total"] == pytest.approx(saved)
    used = sum(answer.json()["usage"]["total_tokens"] for answer in answers)
    assert grown["pointsman_tokens_total"] == used


def test_no_prompt_key_or_user_in_the_metrics(standard: Gateway) -> None:
    # Words, not numbers: measured seconds hold any four digits now and then.
    standard.chat(user="user-okapi", messages=[{"role": "user", "content": "prompt-quagga"}])
    standard.chat(model="unknown-zebra")
    text = standard.http.get("/metrics").text
    assert not any(word in text for word in ("okapi", "quagga", "zebra", "secret"))


def test_unknown_prices_are_null_and_counted(gateway: Serve) -> None:
    text = """
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models:
  priced: {{upstream: sim, prices: {{input: 1, output: 1}}, quality: 0.8}}
  unpriced: {{upstream: sim, quality: 0.8}}
routes:
  auto: {{candidates: [unpriced, priced], router: null, objective: {{kind: quality, keep: 0.5}}}}
"""
    one = gateway(text)
    assert one.chat().json()["model"] == "priced"
    pinned = one.chat(model="unpriced")
    assert pinned.status_code == 200
    assert "x-pointsman-cost-usd" not in pinned.headers
    assert one.metric("pointsman_unpriced_requests_total", model="unpriced") == 1
