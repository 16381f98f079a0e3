"""What the ledger says of requests that were really served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from sqlalchemy import select

from app.accounting import tables
from app.accounting.database import Database
from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body, eventually


def with_ledger(url: str, **options: Any) -> str:
    settings = "".join(f", {name}: {value}" for name, value in options.items())
    return f"{STANDARD}\nledger: {{{{url: '{url}'{settings}}}}}\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"


@pytest.fixture
def kept(gateway: Serve, url: str) -> Gateway:
    return gateway(with_ledger(url, keep_prompt_text="true", keep_embeddings="true"))


def read(url: str, table: Any = tables.requests) -> dict[str, dict[str, Any]]:
    """Rows of a table with an id, by it."""

    async def rows() -> dict[str, dict[str, Any]]:
        database = await Database.open(url)
        async with database.read() as connection:
            found = {
                row["id"]: dict(row) for row in (await connection.execute(select(table))).mappings()
            }
        await database.close()
        return found

    return asyncio.run(rows())


def row(url: str, answer: httpx2.Response, table: Any = tables.requests) -> dict[str, Any]:
    """The row of an answer, once it is there."""
    name = answer.headers["x-pointsman-request-id"]
    eventually(lambda: name in read(url, table))
    return read(url, table)[name]


def test_an_answer(kept: Gateway, url: str) -> None:
    before = time.time()
    answer = kept.chat()
    found = row(url, answer)
    assert before - 1 < found["at_us"] / 1e6 < time.time()
    told = ("route", "model", "upstream", "decision", "status", "outcome")
    assert [found[name] for name in told] == ["auto", "small", "sim", "rule", 200, "ok"]
    usage = answer.json()["usage"]
    assert found["input_tokens"] == usage["prompt_tokens"]
    assert found["output_tokens"] == usage["completion_tokens"]
    assert found["cost_nano"] / 1e9 == pytest.approx(float(answer.headers["x-pointsman-cost-usd"]))
    saved = float(answer.headers["x-pointsman-saved-usd"])
    assert found["saved_nano"] / 1e9 == pytest.approx(saved)
    assert [one["outcome"] for one in found["attempts"]] == ["ok"]
    assert [one["model"] for one in found["predictions"]] == ["small", "medium", "large"]
    assert 0 < found["overhead_seconds"] < found["duration_seconds"] < 10
    assert row(url, answer, tables.prompts)["text"] == "Hello"


def test_a_stream(kept: Gateway, url: str) -> None:
    answer = kept.chat(stream=True)
    found = row(url, answer)
    assert (found["status"], found["outcome"]) == (200, "ok")
    assert found["cost_nano"] > 0
    assert 0 < found["first_token_seconds"] <= found["duration_seconds"]


def test_a_fallback_and_a_failure(kept: Gateway, url: str, simulated: Control) -> None:
    simulated.script("up-small", times=None, status=500)
    found = row(url, kept.chat())
    assert (found["decision"], found["model"]) == ("fallback", "medium")
    tried = [(one["model"], one["outcome"]) for one in found["attempts"]]
    assert tried == [("small", "server_error"), ("medium", "ok")]
    failed = row(url, kept.chat(model="small"))
    assert (failed["route"], failed["status"], failed["outcome"]) == ("pinned", 502, "error")
    assert (failed["cost_nano"], failed["predictions"]) == (0, [])


def test_a_client_that_leaves(kept: Gateway, url: str) -> None:
    ask = body(stream=True, x_simulate={"chunks": 500, "chunk_delay_seconds": 0.02})
    with kept.http.stream("POST", "/v1/chat/completions", json=ask) as answer:
        next(answer.iter_lines())
    found = row(url, answer)
    assert (found["status"], found["outcome"]) == (499, "client_gone")
    assert found["cost_nano"] > 0
    assert found["cost_estimated"]


def test_what_never_became_a_request_is_not_there(kept: Gateway, url: str) -> None:
    strange = [kept.chat(content=b"{"), kept.chat(model="nothing")]
    after = kept.chat()
    row(url, after)
    assert not {one.headers["x-pointsman-request-id"] for one in strange} & set(read(url))


def test_readiness_and_metrics(kept: Gateway, url: str) -> None:
    row(url, kept.chat())
    assert kept.http.get("/readyz").json()["ledger"] == "ok"
    eventually(lambda: kept.metric("pointsman_ledger_pending_records") == 0)
    assert kept.metric("pointsman_ledger_records_total") > 0
    assert kept.metric("pointsman_ledger_lost_records_total") == 0


def test_nothing_of_a_prompt_is_kept_unless_asked(
    gateway: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    plain = gateway(with_ledger(url))
    answer = plain.chat(messages=[{"role": "user", "content": "A secret of mine"}])
    row(url, answer)
    assert read(url, tables.prompts) == {}
    for file in Path(url.removeprefix("sqlite:///")).parent.iterdir():
        assert b"A secret of mine" not in file.read_bytes()


def test_without_a_ledger(gateway: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    none = gateway(STANDARD + "\nledger: null\n")
    assert none.chat().status_code == 200
    assert none.http.get("/readyz").json()["ledger"] == "off"


def test_workers_share_a_ledger(gateway: Serve, new_database: Callable[[], str]) -> None:
    url = new_database()
    two = gateway(with_ledger(url), "--workers", "2")

    def ask(_: int) -> str:
        with httpx2.Client(base_url=two.url, timeout=30) as http:
            answer = http.post("/v1/chat/completions", json=body()).raise_for_status()
            return str(answer.headers["x-pointsman-request-id"])

    with ThreadPoolExecutor(4) as threads:
        asked = set(threads.map(ask, range(40)))
    eventually(lambda: set(read(url)) == asked)
    assert two.metric("pointsman_ledger_records_total") == 40


ROUTED = """
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models:
  small: {{upstream: sim, like: gemini-1.5-flash-002, prices: {{input: 0.1, output: 0.4}}}}
  large: {{upstream: sim, like: gemini-1.5-pro-002, prices: {{input: 5, output: 20}}}}
routes: {{auto: {{candidates: [small, large]}}}}
ledger: {{url: 'sqlite:///LEDGER', keep_embeddings: true}}
"""


def test_the_vector_that_decided_is_kept(
    gateway: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("ledger") / "ledger.db"
    url = f"sqlite:///{file}"
    answer = gateway(ROUTED.replace("LEDGER", str(file))).chat()
    assert row(url, answer)["speed"] == "encoded"
    found = row(url, answer, tables.prompts)
    assert found["text"] is None
    vector = np.frombuffer(found["embedding"], "<f4")
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
    # The dashboard finds the neighbours by it that a decision on the same prompt would show.
    one = gateway(ROUTED.replace("LEDGER", str(file)))
    opened = one.http.get(f"/dashboard/data/decisions/{found['id']}").json()
    explained = one.http.post("/v1/decision", json=body()).json()
    assert opened["neighbours"][0] == explained["neighbours"][0]
    assert opened["no_neighbours"] is None
    assert "Hello" not in str(opened)
