"""Deployments, retries, times and load shedding, as clients and operators meet them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, _start, body, eventually
from tests.redis_server import RedisServer

SPREAD = """
server: {{max_concurrent_requests: 2, queue_requests: 1, queue_seconds: 0.3}}
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    retries: {{attempts: 2, base_seconds: 0.01, max_seconds: 0.02, wait_seconds: 2}}
    breaker: {{min_requests: 4, open_seconds: OPEN, probes: 1}}
models:
  spread:
    deployments:
      - {{upstream: sim, id: east, region: eu, prices: {{input: 1, output: 1}}}}
      - {{upstream: sim, id: west, priority: 1, prices: {{input: 9, output: 9}}}}
  alone: {{upstream: sim, id: alone, prices: {{input: 1, output: 1}}}}
  other: {{upstream: sim, id: other, prices: {{input: 2, output: 2}}}}
routes:
  auto: {{candidates: [spread], router: null}}
  strict: {{candidates: [alone], fallbacks: [other], router: null}}
  lenient:
    candidates: [alone]
    fallbacks: [other]
    router: null
    on_content_refusal: next_model
"""
ADMIN = {"POINTSMAN_ADMIN_KEY": "admin-key-of-the-test-0123456789"}
KEY = {"Authorization": f"Bearer {ADMIN['POINTSMAN_ADMIN_KEY']}"}


def spread(open_seconds: float = 0.2) -> str:
    return SPREAD.replace("OPEN", str(open_seconds))


@pytest.fixture
def served(gateway: Serve, simulated: Control) -> Gateway:
    one = gateway(spread(), **ADMIN)
    one.http.headers.update(KEY)
    return one


def asked(simulated: Control) -> list[str]:
    return [exchange["model"] for exchange in simulated.log()]


def deployment(served: Gateway, name: str) -> dict[str, Any]:
    answer = served.http.get("/admin/deployments").json()
    (found,) = [one for one in answer["data"] if one["deployment"] == name]
    return dict(found)


def test_the_other_deployment_serves_at_its_own_price(served: Gateway, simulated: Control) -> None:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 0}
    simulated.script("east", status=500)
    simulated.script("west", usage=usage)
    answer = served.chat()
    assert asked(simulated) == ["east", "west"]
    assert answer.json()["model"] == "spread"
    assert answer.headers["x-pointsman-decision"] != "fallback", "it is the model that was chosen"
    assert float(answer.headers["x-pointsman-cost-usd"]) == pytest.approx(0.009)


def test_a_breaker_opens_is_seen_and_closes(served: Gateway, simulated: Control) -> None:
    simulated.script("east", times=None, status=503)
    eventually(lambda: served.chat().status_code == 200 and _is_open(served))
    told = deployment(served, "spread/sim/east")
    assert told["error_ratio"] >= 0.5
    assert told["region"] == "eu"
    assert told["in_flight"] == 0
    assert served.metric("pointsman_deployment_state", deployment="spread/sim/east") >= 1
    openings = "pointsman_deployment_openings_total"
    assert served.metric(openings, deployment="spread/sim/east", reason="errors") >= 1
    simulated.clear()
    eventually(lambda: served.chat().status_code == 200 and asked(simulated)[-1] == "east")
    assert deployment(served, "spread/sim/east")["state"] == "closed"
    assert served.metric("pointsman_deployment_state", deployment="spread/sim/east") == 0


def _is_open(served: Gateway) -> bool:
    return bool(deployment(served, "spread/sim/east")["state"] == "open")


def test_a_model_says_where_it_is_served_and_not_how_that_is(served: Gateway) -> None:
    card = served.http.get("/v1/models/spread").raise_for_status().json()
    east, west = card["pointsman"]["deployments"]
    assert east == {"deployment": "spread/sim/east", "upstream": "sim", "region": "eu"}
    assert west.keys() == east.keys()
    listed = {
        card["id"]: card["pointsman"] for card in served.http.get("/v1/models").json()["data"]
    }
    assert [one["deployment"] for one in listed["alone"]["deployments"]] == ["alone"]
    assert "deployments" not in listed["auto"], "a route is served by its models"


def test_the_state_page_is_for_admins(served: Gateway) -> None:
    assert httpx2.get(f"{served.url}/admin/deployments").status_code == 401


def test_a_moment_that_an_upstream_names_is_waited_for(served: Gateway, simulated: Control) -> None:
    simulated.script("alone", status=429, headers={"x-ratelimit-reset-requests": "150ms"})
    started = time.monotonic()
    assert served.chat(model="alone").status_code == 200
    assert time.monotonic() - started >= 0.15
    assert asked(simulated) == ["alone", "alone"]
    assert served.metric("pointsman_retries_total", deployment="alone", result="sent") >= 1


def test_a_client_sets_its_own_time(served: Gateway, simulated: Control) -> None:
    for header in ("x-pointsman-timeout-seconds", "x-pointsman-first-token-timeout-seconds"):
        simulated.script("alone", delay_seconds=20)
        started = time.monotonic()
        answer = served.http.post(
            "/v1/chat/completions", json=body(model="alone"), headers={header: "0.2"}
        )
        assert time.monotonic() - started < 5
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert deployment(served, "alone")["error_ratio"] == 0, "haste is no fault of the upstream's"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-pointsman-timeout-seconds", "soon"),
        ("x-pointsman-timeout-seconds", "0"),
        ("x-pointsman-timeout-seconds", "nan"),
        ("x-pointsman-first-token-timeout-seconds", "-1"),
        ("x-pointsman-retries", "1.5"),
        ("x-pointsman-retries", "21"),
        ("x-pointsman-retries", ""),
    ],
)
def test_a_bad_wish_is_named(served: Gateway, header: str, value: str) -> None:
    answer = served.http.post("/v1/chat/completions", json=body(), headers={header: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == header


def test_refused_content_follows_the_route(served: Gateway, simulated: Control) -> None:
    error = {"error": {"message": "Filtered.", "type": None, "code": "content_filter"}}
    simulated.script("alone", times=None, status=400, error=error)
    refused = served.chat(model="strict")
    assert (refused.status_code, refused.json()) == (400, error)
    assert served.chat(model="lenient").json()["model"] == "other"


async def test_who_is_too_many_waits_or_is_told_at_once(
    served: Gateway, simulated: Control
) -> None:
    simulated.script("alone", times=None, stall_after_chunks=1)
    shed = "pointsman_shed_requests_total"
    full, late = (served.metric(shed, reason=one) for one in ("queue_full", "queue_timeout"))
    limits = httpx2.Limits(max_connections=10)
    async with httpx2.AsyncClient(
        base_url=served.url, timeout=30, limits=limits, headers=KEY
    ) as http, asyncio.TaskGroup() as group:  # fmt: skip
        leave, inside = asyncio.Event(), asyncio.Semaphore(0)

        async def stays() -> None:
            asking = http.stream(
                "POST", "/v1/chat/completions", json=body(model="alone", stream=True)
            )
            async with asking as answer:
                assert answer.status_code == 200
                inside.release()
                await leave.wait()

        for _ in range(2):
            group.create_task(stays())
        for _ in range(2):
            await inside.acquire()
        waits = group.create_task(http.post("/v1/chat/completions", json=body(model="other")))
        await asyncio.to_thread(eventually, lambda: served.metric("pointsman_requests_queued") == 1)
        refused = await http.post("/v1/chat/completions", json=body(model="other"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "gateway_overloaded"
        assert (await waits).status_code == 503, "its turn did not come in time"
        waits = group.create_task(http.post("/v1/chat/completions", json=body(model="other")))
        await asyncio.to_thread(eventually, lambda: served.metric("pointsman_requests_queued") == 1)
        leave.set()
        assert (await waits).status_code == 200
    assert served.metric(shed, reason="queue_full") == full + 1
    assert served.metric(shed, reason="queue_timeout") == late + 1
    eventually(lambda: deployment(served, "alone")["in_flight"] == 0)
    assert served.metric("pointsman_requests_in_flight") == 0


@pytest.fixture
def pair(simulated: Control, tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two gateways over one Redis."""
    server = RedisServer()
    server.start()
    with ExitStack() as stack:
        gateways = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            text = spread(60) + f"redis: {{{{url: '{server.url}', timeout_ms: 2000}}}}\n"
            (tmp_path / name / "config.yaml").write_text(text.format(upstream=simulated.base_url))
            gateways.append(_start(tmp_path / name, (), stack, ADMIN))
            gateways[-1].http.headers.update(KEY)
        yield gateways
    server.close()


def test_what_one_gateway_meets_the_other_heeds(pair: list[Gateway], simulated: Control) -> None:
    one, two = pair
    simulated.script("east", times=None, status=503)
    simulated.script("alone", status=429, headers={"Retry-After": "40"})
    eventually(lambda: one.chat().status_code == 200 and _is_open(one))
    assert one.chat(model="alone").status_code == 429
    eventually(lambda: _is_open(two) and deployment(two, "alone")["cooldown_until"] is not None)
    simulated.clear()
    assert two.chat().status_code == 200
    limited = two.chat(model="alone")
    assert limited.status_code == 429
    assert 1 <= int(limited.headers["retry-after"]) <= 40
    assert asked(simulated) == ["west"]
