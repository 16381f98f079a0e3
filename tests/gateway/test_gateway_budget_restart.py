"""A budget outlives the process: what is in the ledger counts for whoever starts next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2

from app.accounting import spend
from app.accounting.periods import periods
from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, eventually
from tests.gateway.limited import limited, plain

ADMIN = "admin-key-of-these-tests"


def test_who_starts_next_goes_on_from_the_ledger(
    gateway: Serve, simulated: Control, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = f"\nledger: {{{{url: '{url}', journal: '{tmp_path}/journal'}}}}\n"
    simulated.script(times=None, usage={"prompt_tokens": 10, "completion_tokens": 100})
    first = gateway(limited("usd_in_all: 0.0001", "first", ledger))
    assert first.chat(content=plain(100)).status_code == 200
    assert first.chat(content=plain(100)).status_code == 200

    eventually(lambda: booked(url) == 2 * 41_000, 20.0)

    second = gateway(limited("usd_in_all: 0.0001", "second", ledger))
    refused = second.chat(content=plain(100))
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "policy_budget_exhausted"
    assert second.chat(content=plain(1)).status_code == 200, "what is left is there to be spent"


def test_a_budget_of_a_key_in_the_database_goes_on_too(
    gateway: Serve, simulated: Control, tmp_path: Path
) -> None:
    """No other budget there is, and the key itself is known only once the database was read."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = f"\nledger: {{{{url: '{url}', journal: '{tmp_path}/journal'}}}}\n"
    environment = {"POINTSMAN_ADMIN_KEY": ADMIN, "POINTSMAN_KEY_SECRET": "s" * 32}
    simulated.script(times=None, usage={"prompt_tokens": 10, "completion_tokens": 100})
    first = gateway(limited("soft_share: 1", "first of a key", ledger), **environment)
    made = first.http.post(
        "/admin/keys",
        headers={"Authorization": f"Bearer {ADMIN}"},
        json={"name": "team", "limits": {"usd_in_all": 0.0001}},
    ).json()
    bearer = {"Authorization": f"Bearer {made['key']}"}

    def ask(served: Gateway) -> httpx2.Response:
        return served.http.post("/v1/chat/completions", content=plain(100), headers=bearer)

    assert [ask(first).status_code for _ in range(3)] == [200, 200, 429]
    eventually(lambda: booked(url) == 2 * 41_000, 20.0)

    second = gateway(limited("soft_share: 1", "second of a key", ledger), **environment)
    refused = ask(second)
    assert refused.status_code == 429
    assert refused.headers["x-pointsman-limit"] == "key usd_in_all"


def booked(url: str) -> int:
    starts = {"all": periods(0)["all"].start}
    rows = asyncio.run(spend.since(url, dict(starts)))
    return sum(nano for scope, name, _, nano in rows if (scope, name) == ("route", "auto"))
