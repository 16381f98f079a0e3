"""Two gateways over one real Redis and one real PostgreSQL are one: their dashboards show the same
totals, and a budget is held once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, _start, eventually
from tests.gateway.limited import ask_many, costs, limited, most_usd, plain
from tests.postgres import Postgres
from tests.redis_server import RedisServer

ADMIN = "an-admin-key-of-the-tests"
HEADERS = {"authorization": f"Bearer {ADMIN}"}
AFFORDED = 20
BUDGET = AFFORDED * most_usd(100) + 1e-6
OTHERS = 10


@pytest.fixture
def two(postgres: Postgres, simulated: Control, tmp_path: Path) -> Iterator[list[Gateway]]:
    redis = RedisServer()
    redis.start()
    with ExitStack() as stack:
        stack.callback(redis.close)
        more = (
            f"redis: {{{{url: '{redis.url}', timeout_ms: 2000, replicas: 2}}}}\n"
            f"ledger: {{{{url: '{postgres.database()}'}}}}\n"
        )
        text = limited(f"usd_in_all: {BUDGET:.9f}", more=more, patience=60)
        key = {"POINTSMAN_KEY_SECRET": "the key secret of two gateways of the tests"}
        started = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.yaml").write_text(text.format(upstream=simulated.base_url))
            started.append(_start(folder, (), stack, {**key, "POINTSMAN_ADMIN_KEY": ADMIN}))
        yield started


def overview(served: Gateway) -> Any:
    answer = served.http.get("/dashboard/data/overview?range=1h", headers=HEADERS)
    return answer.raise_for_status().json()


async def test_they_show_the_same_totals_and_hold_a_budget_once(
    two: list[Gateway], simulated: Control
) -> None:
    usage = {"prompt_tokens": len(plain(100)), "completion_tokens": 100}
    simulated.script(times=None, delay_seconds=1, usage=usage)
    halves = await asyncio.gather(
        *(ask_many(served, 30, plain(100), headers=HEADERS) for served in two)
    )
    answers = [answer for half in halves for answer in half]
    good = [answer for answer in answers if answer.status_code == 200]
    assert (len(good), len(answers)) == (AFFORDED, 60)
    simulated.clear()
    pinned = await ask_many(
        two[0], OTHERS, plain(100).replace(b'"auto"', b'"large"'), headers=HEADERS
    )
    spent = Decimal(str(round(costs(good) + costs(pinned), 9)))

    eventually(lambda: overview(two[0])["total"]["requests"] == len(answers) + OTHERS, 10)
    # Of two looks one may be at the next step of time.
    eventually(lambda: overview(two[0]) == overview(two[1]))
    one = overview(two[1])
    assert Decimal(one["total"]["cost_usd"]) == spent
    assert one["total"]["statuses"] == {"429": len(answers) - AFFORDED}
    assert {route["name"]: route["requests"] for route in one["routes"]} == {
        "auto": 60, "pinned": OTHERS,
    }  # fmt: skip
    path = "/dashboard/data/decisions?limit=200&range=1h"
    shown = [served.http.get(path, headers=HEADERS).json()["data"] for served in two]
    assert shown[0] == shown[1]
    assert len(shown[0]) == len(answers) + OTHERS
