"""Hedging as a client, the upstreams and the ledger see it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from app.delivery.recent import LEAST_TIMES
from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, eventually
from tests.gateway.test_gateway_cancel import AT_ONCE_SECONDS, USER

HEDGED = """
server: {{keep_alive_comment_seconds: 0.2}}
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    retries: {{attempts: 0}}
    breaker: null
models:
  spread:
    deployments:
      - {{upstream: sim, id: east, prices: {{input: 1, output: 1}}}}
      - {{upstream: sim, id: west, priority: 1, prices: {{input: 9, output: 9}}}}
  other: {{upstream: sim, id: other, prices: {{input: 20, output: 20}}}}
routes:
  auto: {{candidates: [spread], router: null, hedge: {{min_seconds: 0.3, budget_share: 1}}}}
  mended:
    candidates: [spread]
    fallbacks: [other]
    router: null
    hedge: {{min_seconds: 0.3, budget_share: 1}}
    on_stream_failure: continue
"""
"""A late stream has begun with comments by the time that it is hedged."""
LONG_SECONDS = 60.0


async def ask(client: AsyncOpenAI, *, stream: bool, model: str = "auto") -> tuple[str, str, float]:
    """The request's id, the text, and when the first of it came."""
    create: Any = client.chat.completions.with_raw_response.create
    raw = await create(model=model, messages=USER, stream=stream)
    answer = raw.parse()
    came, text = time.monotonic(), ""
    if stream:
        async for chunk in answer:
            came = time.monotonic() if not text else came
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    else:
        text = answer.choices[0].message.content
    return raw.headers["x-pointsman-request-id"], text, came


@pytest.fixture
async def served(gateway: Serve, simulated: Control) -> Gateway:
    """It has seen enough to know what is late."""
    one = gateway(HEDGED)
    if not one.metric("pointsman_upstream_attempts_total"):
        async with one.client() as client:
            for stream in (False, True):
                for _ in range(LEAST_TIMES):
                    await ask(client, stream=stream)
    simulated.clear()
    return one


def kept(served: Gateway, request_id: str) -> dict[str, Any]:
    """The ledger's row of a request."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        with closing(sqlite3.connect(served.folder / ".pointsman" / "ledger.db")) as connection:
            connection.row_factory = sqlite3.Row
            query = "SELECT * FROM requests WHERE id = ?"
            found.extend(map(dict, connection.execute(query, [request_id])))
        return bool(found)

    eventually(there)
    return {**found[0], "attempts": orjson.loads(found[0]["attempts"])}


def told(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["deployment"], one["outcome"]) for one in row["attempts"]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("delay", ["delay_seconds", "first_byte_delay_seconds"])
async def test_the_other_one_answers_and_the_late_one_is_stopped_at_once(
    served: Gateway, simulated: Control, stream: bool, delay: str
) -> None:
    won = served.metric("pointsman_hedges_total", route="auto", result="won")
    simulated.script("east", **{delay: LONG_SECONDS})
    simulated.script(
        "west", text="from the west", usage={"prompt_tokens": 7, "completion_tokens": 3}
    )
    async with served.client() as client:
        request_id, text, came = await ask(client, stream=stream)
    assert text == "from the west"
    late = await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])
    assert late["model"] == "east"
    assert late["disconnected_monotonic"] - came < AT_ONCE_SECONDS
    assert len(simulated.log()) == 2
    row = await asyncio.to_thread(kept, served, request_id)
    assert told(row) == [("spread/sim/east", "hedged_away"), ("spread/sim/west", "ok")]
    loser, winner = row["attempts"]
    assert (loser["estimated"], winner["estimated"]) == (True, False)
    assert (winner["cost"], row["input_tokens"], row["output_tokens"]) == (90_000, 7, 3)
    assert loser["cost"] > 0
    assert row["cost_nano"] == loser["cost"] + winner["cost"]
    assert served.metric("pointsman_hedges_total", route="auto", result="won") == won + 1


async def test_the_late_one_answers_after_all(served: Gateway, simulated: Control) -> None:
    """What its stream comes to is booked to it, and not to the hedge that was stopped."""
    simulated.script("east", delay_seconds=0.6, usage={"prompt_tokens": 7, "completion_tokens": 3})
    simulated.script("west", delay_seconds=LONG_SECONDS)
    async with served.client() as client:
        request_id, _, _ = await ask(client, stream=True)
    stopped = await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])
    assert stopped["model"] == "west"
    row = await asyncio.to_thread(kept, served, request_id)
    assert told(row) == [("spread/sim/west", "hedged_away"), ("spread/sim/east", "ok")]
    assert [one["estimated"] for one in row["attempts"]] == [True, False]
    assert (row["attempts"][1]["cost"], row["input_tokens"]) == (10_000, 7)


async def test_what_won_and_then_breaks_is_continued_elsewhere(
    served: Gateway, simulated: Control
) -> None:
    simulated.script("east", delay_seconds=LONG_SECONDS)
    simulated.script("west", text="One two three four", chunks=4, cut_after_chunks=3)
    simulated.script("other", text=" and five.")
    async with served.client() as client:
        request_id, text, _ = await ask(client, stream=True, model="mended")
    assert text.startswith("One ")
    assert text.endswith(" and five.")
    row = await asyncio.to_thread(kept, served, request_id)
    assert [(one["model"], one["outcome"]) for one in row["attempts"]] == [
        ("spread", "hedged_away"),
        ("spread", "cut"),
        ("other", "ok"),
    ]
    assert row["model"] == "other"


async def test_a_client_that_leaves_stops_both(served: Gateway, simulated: Control) -> None:
    for name in ("east", "west"):
        simulated.script(name, delay_seconds=LONG_SECONDS)
    async with served.client() as client:
        asking = asyncio.create_task(ask(client, stream=True))
        await asyncio.to_thread(simulated.wait_for, lambda one: one["model"] == "west")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await asyncio.to_thread(
        eventually, lambda: [one["disconnected"] for one in simulated.log()] == [True, True]
    )
    eventually(lambda: served.metric("pointsman_requests_in_flight") == 0)
