"""Gateways over one real Redis hold one limit, and go on serving whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, _start, eventually
from tests.gateway.limited import ask_many, costs, limited, most_usd, plain
from tests.redis_server import RedisServer

Start = Callable[..., Gateway]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer()
    one.start()
    yield one
    one.close()


@pytest.fixture
def start(server: RedisServer, simulated: Control, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway of these limits over the server."""
    with ExitStack() as stack:
        count = 0

        def one(limits: str, redis: str = "", *arguments: str) -> Gateway:
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            text = limited(limits, more=f"redis: {{{{url: '{server.url}'{redis}}}}}\n")
            text = text.format(upstream=simulated.base_url)
            (folder / "config.yaml").write_text(text)
            return _start(folder, arguments, stack)

        yield one


def test_readiness_says_how_redis_is(start: Start, server: RedisServer) -> None:
    served = start("requests_per_minute: 1000")
    assert served.http.get("/readyz").json()["redis"] == "connected"
    server.freeze()
    assert served.chat().status_code == 200
    assert served.http.get("/readyz").json()["redis"] == "away"
    assert served.metric("pointsman_redis_away") == 1
    server.thaw()
    eventually(lambda: served.http.get("/readyz").json()["redis"] == "connected")
    assert served.metric("pointsman_redis_away") == 0


async def test_two_gateways_hold_one_limit(start: Start, simulated: Control) -> None:
    """Two hundred at once on a budget for twenty: a hundred at each."""
    budget = 20 * most_usd(100) + 1e-6
    limits = f"usd_in_all: {budget:.9f}"
    one, two = start(limits, ", timeout_ms: 2000"), start(limits, ", timeout_ms: 2000")
    usage = {"prompt_tokens": len(plain(100)), "completion_tokens": 100}
    simulated.script(times=None, delay_seconds=1.5, usage=usage)
    halves = await asyncio.gather(ask_many(one, 100, plain(100)), ask_many(two, 100, plain(100)))
    answers = [answer for half in halves for answer in half]
    good = [answer for answer in answers if answer.status_code == 200]
    assert (len(good), len(answers)) == (20, 200)
    assert costs(good) <= budget
    for each in (one, two):
        assert each.http.get("/readyz").json()["redis"] == "connected"
        eventually(lambda each=each: refusal_of(each) == "policy_budget_exhausted")  # type: ignore[misc]


def refusal_of(served: Gateway) -> str:
    code: str = served.chat(content=plain(100)).json()["error"]["code"]
    return code


async def test_workers_and_slots_and_rates_are_shared(start: Start, simulated: Control) -> None:
    one = start("parallel_requests: 6", ", timeout_ms: 2000", "--workers", "2")
    two = start("parallel_requests: 6", ", timeout_ms: 2000")
    simulated.script(times=None, delay_seconds=1.5)
    halves = await asyncio.gather(ask_many(one, 30, plain(10)), ask_many(two, 30, plain(10)))
    codes = sorted(answer.status_code for half in halves for answer in half)
    assert codes == [200] * 6 + [429] * 54


def test_a_crash_frees_its_slots(start: Start, simulated: Control) -> None:
    one = start("parallel_requests: 1", ", lease_seconds: 1")
    two = start("parallel_requests: 1", ", lease_seconds: 1")
    simulated.script(delay_seconds=60)
    with httpx2.Client(base_url=one.url) as http, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(http.post, "/v1/chat/completions", content=plain(10))
        simulated.wait_for(lambda one: one["finished_at"] is None)
        one.process.kill()
        assert isinstance(asking.exception(), httpx2.HTTPError)
    assert two.chat().status_code == 429
    killed = time.monotonic()
    eventually(lambda: two.chat().status_code == 200)
    assert time.monotonic() - killed < 2
    one.process.wait()


@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_an_outage_under_load(
    start: Start, server: RedisServer, simulated: Control, trouble: str
) -> None:
    """Every request is answered soon, the log has two lines, and the limit holds over it all."""
    budget = 300 * most_usd(100)
    served = start(f"usd_in_all: {budget:.9f}, parallel_requests: 500")
    usage = {"prompt_tokens": 40, "completion_tokens": 100}
    simulated.script(times=None, usage=usage)
    served.chat(content=plain(100))
    served.new_log()
    answers: list[httpx2.Response] = []
    slowest = 0.0
    over = asyncio.Event()

    async def client() -> None:
        nonlocal slowest
        async with httpx2.AsyncClient(base_url=served.url, timeout=10) as http:
            while not over.is_set():
                asked = time.monotonic()
                answers.append(await http.post("/v1/chat/completions", content=plain(100)))
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.05)

    clients = [asyncio.ensure_future(client()) for _ in range(4)]
    await asyncio.sleep(0.4)
    server.kill() if trouble == "killed" else server.freeze()
    await asyncio.sleep(0.6)
    during = len(answers)
    await asyncio.to_thread(server.start) if trouble == "killed" else server.thaw()
    await asyncio.to_thread(eventually, lambda: ready(served) == "connected")
    await asyncio.sleep(0.3)
    over.set()
    await asyncio.gather(*clients)
    assert len(answers) > during > 10
    assert slowest < 0.1 + 0.4, "the time-out, and what a busy machine adds"
    good = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert len(good) > 10
    # All that was spent, before, meanwhile and since, is in Redis.
    spent = costs(good) + 40 * 0.1e-6 + 100 * 0.4e-6
    eventually(lambda: total(server) == pytest.approx(spent, abs=3e-9), 3.0)
    said = served.new_log()
    assert said.count("Redis is away") == said.count("Redis is back") == 1
    assert "Traceback" not in said


def ready(served: Gateway) -> Any:
    return served.http.get("/readyz").json()["redis"]


def total(server: RedisServer) -> float:
    """Dollars that Redis has for the route, what is reserved included."""
    return int(server.command("HGET", "{pointsman}:usd:route:auto:all", "t", lines=2)) / 1e9
