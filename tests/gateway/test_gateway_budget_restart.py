"""A budget outlives the process: what is in the ledger counts for whoever starts next."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.accounting import spend
from app.accounting.periods import periods
from app.simulated.control import Control
from tests.gateway.conftest import Serve, eventually
from tests.gateway.limited import limited, plain


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


def booked(url: str) -> int:
    starts = {"all": periods(0)["all"].start}
    rows = asyncio.run(spend.since(url, dict(starts)))
    return sum(nano for scope, name, _, nano in rows if (scope, name) == ("route", "auto"))
