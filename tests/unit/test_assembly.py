"""What a ledger knows is where budgets go on from after a restart."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2

from app.accounting.limiter import Spent
from app.accounting.periods import Period, PeriodName
from app.assembly import application
from app.config.load import loads

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models: {only: {upstream: u, prices: {input: 1, output: 1}}}
routes: {auto: {candidates: [only], router: null}}
limits: {usd_per_month: 5}
"""


async def test_budgets_go_on_from_what_had_been_spent() -> None:
    async def ledger(periods: Mapping[PeriodName, Period]) -> list[Spent]:
        assert set(periods) == {"day", "week", "month", "all"}
        return [Spent("gateway", "", "month", 5_000_000_000)]

    app = application(loads(TEXT), ledger)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as http,
    ):
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "policy_budget_exhausted"
    assert answer.headers["x-pointsman-limit"] == "gateway usd_per_month"
