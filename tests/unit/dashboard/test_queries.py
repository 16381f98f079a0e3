"""The page's figures against the ledger's own: `spend`, the rows, and what was really sent."""

from __future__ import annotations

import csv
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete

from app.accounting import backfill, retention, tables
from app.accounting.booking import book
from app.accounting.buckets import SPANS, bin_of, percentile
from app.accounting.database import Database
from app.accounting.spend import spending
from app.dashboard import export
from app.dashboard.decisions import decision, decisions
from app.dashboard.evidence import Evidence
from app.dashboard.overview import overview
from app.dashboard.span import RANGES, Range, Span, Wanted
from app.dashboard.tradeoff import tradeoff
from app.exchange.money import usd_text
from app.exchange.record import Attempt, Prediction, Record
from app.routing.decider import Decider
from app.routing.names import Names
from app.telemetry.metrics import Metrics
from tests.unit.accounting.records import NOON, lines, record, rows

NOW = NOON + 30.0
END_US = int(NOON) * 1_000_000
"""The newest of `some` is from the hour before noon."""
NOTHING = Evidence(Names({}, {}), Decider(None, Metrics(CollectorRegistry())))
"""No route is there whose router could be asked."""
MODELS = ("small", "large", None)


def some(count: int = 400, seconds: float = 3_000) -> list[Record]:
    """Requests of all sorts over the last while, ending now."""
    dice = random.Random(7)
    made = []
    for number in range(count):
        model = dice.choice(MODELS)
        failed = model is None
        made.append(
            record(
                number,
                at=NOW - dice.random() * seconds,
                route=dice.choice(("auto", "cheap")),
                decision={"large": "fallback", "small": "cached"}.get(model or "", "learned"),
                model=model,
                upstream=None if failed else "sim",
                status=502 if failed else 200,
                outcome="error" if failed else "ok",
                cost=None if dice.random() < 0.1 else dice.randrange(10_000),
                baseline_cost=None if failed else 20_000,
                duration_seconds=dice.lognormvariate(-1, 1),
                first_token_seconds=dice.lognormvariate(-2, 1) if dice.random() < 0.5 else None,
                overhead_seconds=dice.lognormvariate(-7, 1),
                attempts=[
                    Attempt("sim", model or "small", "server_error" if failed else "ok", 0.1, 200)
                ],
                predictions=(
                    Prediction("small", 0.6, 0.5, 0.7, 1_000, eligible=True),
                    Prediction("large", 0.9, 0.8, 1.0, 9_000, eligible=True),
                ),
            )
        )
    return made


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Database]:
    one = await Database.open(database_url)
    written = lines(*some())
    # In batches, so that buckets are added to.
    for first in range(0, len(written), 50):
        batch = written[first : first + 50]
        await book(one, "s", batch, batch[-1].end)
    yield one
    await one.close()


def wanted(range_: Range = "1h", **filters: Any) -> Wanted:
    return Wanted(Span.ending(range_, NOW), **filters)


@pytest.mark.parametrize("range_", RANGES)
async def test_sums_are_those_of_spend(opened: Database, range_: Range) -> None:
    asked = wanted(range_)
    span = asked.span
    since, until = (datetime.fromtimestamp(at, UTC) for at in (span.since, span.until))
    by_model = await spending(opened, "model", since, until)
    found = await overview(opened, asked)
    total, told = by_model.total, found["total"]
    for name in ("requests", "failed", "unpriced", "estimated", "input_tokens", "output_tokens"):
        assert told[name] == getattr(total, name)
    assert told["requests"] > 50
    assert told["cost_usd"] == usd_text(total.cost_nano)
    assert told["saved_usd"] == usd_text(total.saved_nano)
    assert told["baseline_usd"] == usd_text(total.baseline_cost_nano)
    shown = {one["name"]: (one["requests"], one["cost_usd"]) for one in found["models"]}
    assert shown == {
        one.name: (one.requests, None if one.cost is None else usd_text(one.cost))
        for one in by_model.rows
    }
    for kind in ("models", "routes"):
        assert sum(sum(one["series"]) for one in found[kind]) == total.requests
    assert sum(found["series"]["requests"]) == total.requests
    assert sum(found["series"]["cost_usd"]) == pytest.approx(total.cost_nano / 1e9)
    assert sum(found["series"]["unrouted_usd"]) == pytest.approx(
        (total.cost_nano + total.saved_nano) / 1e9
    )
    assert len(found["starts"]) == len(found["series"]["cost_usd"])


async def test_filters(opened: Database) -> None:
    whole = await overview(opened, wanted())
    kept = await rows(opened, tables.requests)
    for route in ("auto", "cheap"):
        for model in ("small", "large", "none"):
            mine = [
                row for row in kept if row["route"] == route and (row["model"] or "none") == model
            ]
            told = await overview(opened, wanted(route=route, model=model))
            assert told["total"]["requests"] == len(mine)
            assert (
                told["names"]
                == whole["names"]
                == {
                    "routes": ["auto", "cheap"],
                    "models": ["large", "none", "small"],
                }
            )
            listed = await decisions(opened, wanted(route=route, model=model), 1_000)
            assert [row["id"] for row in listed] == [
                row["id"] for row in sorted(mine, key=lambda row: -row["at_us"])
            ]


@pytest.mark.parametrize("name", ["duration", "first_token", "overhead"])
async def test_percentiles_are_within_what_is_stated(opened: Database, name: str) -> None:
    kept = await rows(opened, tables.requests)
    true = sorted(row[f"{name}_seconds"] for row in kept if row[f"{name}_seconds"] is not None)
    told = (await overview(opened, wanted()))["latency"][name]
    assert told["count"] == len(true)
    for word, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        rank = -int(-share * len(true) // 1)
        assert told[word] == pytest.approx(true[rank - 1], rel=0.1, abs=1.1e-5)


def test_a_bin_is_near_what_is_in_it() -> None:
    for seconds in (0.0, 3e-6, 1e-5, 2.5e-4, 0.01, 0.99, 1.0, 7.7, 600.0, 3_600.0):
        assert percentile({bin_of(seconds): 3}, 0.5) == pytest.approx(seconds, rel=0.1, abs=1.1e-5)
    assert percentile({}, 0.5) is None


async def test_failures_fallbacks_and_upstreams(opened: Database) -> None:
    kept = await rows(opened, tables.requests)
    failed = sum(row["outcome"] == "error" for row in kept)
    told = await overview(opened, wanted())
    assert told["total"]["failed"] == failed == told["total"]["statuses"]["502"]
    assert told["total"]["fallbacks"] == sum(row["decision"] == "fallback" for row in kept)
    assert told["total"]["cached"] == sum(row["decision"] == "cached" for row in kept) > 0
    (upstream,) = told["upstreams"]
    assert (upstream["name"], upstream["attempts"]) == ("sim", len(kept))
    assert upstream["failed"] == failed == upstream["outcomes"]["server_error"]
    assert upstream["p95"] == pytest.approx(0.1, rel=0.1)


async def test_what_a_client_did_wrong_or_a_limit_refused_is_told_apart(database_url: str) -> None:
    statuses = (200, 400, 429, 429, 502, 200)
    outcomes = ("ok", "error", "error", "error", "error", "cut")
    database = await Database.open(database_url)
    written = lines(
        *(
            record(number, at=NOW, status=status, outcome=outcome)
            for number, (status, outcome) in enumerate(zip(statuses, outcomes, strict=True))
        )
    )
    await book(database, "s", written, written[-1].end)
    told = (await overview(database, wanted()))["total"]
    assert (told["failed"], told["refused"]) == (5, 3)
    await database.close()


async def test_predicted_quality(opened: Database) -> None:
    kept = [row for row in await rows(opened, tables.requests) if row["model"]]
    told = (await overview(opened, wanted()))["total"]["predicted"]
    assert told["requests"] == len(kept)
    small = sum(row["model"] == "small" for row in kept) / len(kept)
    assert told["served"] == pytest.approx(0.6 * small + 0.9 * (1 - small))
    assert told["best"] == pytest.approx(0.9)


async def test_the_tradeoff_holds_the_point_between_its_ends(opened: Database) -> None:
    kept = [row for row in await rows(opened, tables.requests) if row["model"]]
    small = sum(row["model"] == "small" for row in kept) / len(kept)
    told = await tradeoff(opened, wanted())
    assert told["requests"] == len(kept)
    assert told["point"]["quality"] == pytest.approx(0.6 * small + 0.9 * (1 - small))
    assert told["point"]["cost_usd"] == pytest.approx((1 * small + 9 * (1 - small)) * 1e-6)
    assert told["curve"][0] == {"quality": pytest.approx(0.6), "cost_usd": pytest.approx(1e-6)}
    assert told["curve"][-1] == {"quality": pytest.approx(0.9), "cost_usd": pytest.approx(9e-6)}
    assert [one["name"] for one in told["models"]] == ["large", "small"]


async def test_an_empty_ledger(database_url: str) -> None:
    database = await Database.open(database_url)
    told = await overview(database, wanted())
    assert told["total"]["requests"] == 0
    assert told["total"]["predicted"] is None
    assert told["latency"]["duration"] == {"count": 0, "p50": None, "p95": None, "p99": None}
    assert await decisions(database, wanted(), 25) == []
    assert await decision(database, "req_1", NOTHING) is None
    assert (await tradeoff(database, wanted()))["point"] is None
    await database.close()


async def test_one_decision_is_all_that_is_kept(opened: Database) -> None:
    told = await decision(opened, "req_3", NOTHING)
    (row,) = [one for one in await rows(opened, tables.requests) if one["id"] == "req_3"]
    assert told is not None
    assert told["saved_usd"] == (None if row["saved_nano"] is None else usd_text(row["saved_nano"]))
    assert [one["model"] for one in told["candidates"]] == ["small", "large"]
    assert told["candidates"][0] == {
        "model": "small", "quality": 0.6, "quality_low": 0.5, "quality_high": 0.7,
        "expected_cost_usd": "0.000001", "eligible": True,
    }  # fmt: skip
    assert told["attempts"][0]["upstream"] == "sim"
    assert told["prompt"] is None
    assert told["neighbours"] == []
    assert "no route" in told["no_neighbours"]


@pytest.mark.parametrize("asked", [True, False])
async def test_a_prompt_is_told_only_where_it_is_kept(database_url: str, asked: bool) -> None:
    database = await Database.open(database_url)
    written = lines(record(1, prompt="A secret of mine"))
    await book(database, "s", written, written[-1].end)
    told = await decision(database, "req_1", replace(NOTHING, keeps_text=asked))
    assert told is not None
    assert told["prompt"] == ("A secret of mine" if asked else None)
    await database.close()


async def test_the_export_is_whole(opened: Database) -> None:
    kept = await rows(opened, tables.requests)
    text = "".join([part async for part in export.sums(opened, wanted())])
    told = list(csv.DictReader(StringIO(text)))
    assert sum(int(row["requests"]) for row in told) == len(kept)
    assert sum(round(float(row["cost_usd"]) * 1e9) for row in told) == sum(
        row["cost_nano"] or 0 for row in kept
    )
    text = "".join([part async for part in export.requests(opened, wanted(model="small"))])
    ids = [row["id"] for row in csv.DictReader(StringIO(text))]
    assert sorted(ids) == sorted(row["id"] for row in kept if row["model"] == "small")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "_PAGE", 7)


async def without_sums(database: Database) -> list[dict[str, Any]]:
    """As an upgrade finds it; returns the sums that there were."""
    before = await rows(database, tables.buckets)
    async with database.write() as connection:
        await connection.execute(delete(tables.buckets))
        await connection.execute(tables.bucket_backfill.insert().values(from_us=END_US))
    return [_rounded(row) for row in before]


@pytest.mark.usefixtures("small_pages")
async def test_sums_of_rows_that_were_there_before_them(opened: Database) -> None:
    before = await without_sums(opened)
    await backfill.complete(opened, NOW)
    assert [_rounded(row) for row in await rows(opened, tables.buckets)] == before
    assert await backfill.reached(opened) is None
    assert (await overview(opened, wanted("24h")))["complete_from"] is None


@pytest.mark.usefixtures("small_pages")
async def test_what_was_interrupted_goes_on_where_it_was(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = lines(record(8_000, at=NOW - 9_000))
    await book(opened, "earlier", earlier, earlier[-1].end)
    before = await without_sums(opened)
    put = backfill._put

    async def fails_the_second_time(connection: Any, start: int, *rest: Any) -> None:
        await put(connection, start, *rest)
        if start < END_US - backfill.HOUR_US:
            raise OSError("the disk is full")

    monkeypatch.setattr(backfill, "_put", fails_the_second_time)
    with pytest.raises(OSError, match="full"):
        await backfill.complete(opened, NOW)
    assert await backfill.reached(opened) == END_US - backfill.HOUR_US
    assert (await overview(opened, wanted("24h")))["complete_from"] == END_US // 10**6 - 3_600
    half = [_rounded(row) for row in await rows(opened, tables.buckets)]
    assert half == [row for row in before if row["start_us"] >= END_US - backfill.HOUR_US]
    monkeypatch.setattr(backfill, "_put", put)
    await backfill.complete(opened, NOW)
    assert [_rounded(row) for row in await rows(opened, tables.buckets)] == before


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("times", [1, 10])
async def test_what_is_booked_meanwhile_is_counted_once(
    opened: Database, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Also in an hour that is never the same twice, which is then made while nobody writes."""
    await without_sums(opened)
    read = backfill._read
    booked = 0

    async def overtaken(*arguments: Any) -> Any:
        nonlocal booked
        found = await read(*arguments)
        if booked < times:
            # Before the last row that was read, where reading on would not find it.
            late = lines(record(9_000 + booked, at=NOW - 3_000, route="late"))
            await book(opened, f"late-{booked}", late, late[-1].end)
            booked += 1
        return found

    monkeypatch.setattr(backfill, "_read", overtaken)
    await backfill.complete(opened, NOW)
    found = (await overview(opened, wanted("24h")))["total"]
    assert found["requests"] == 400 + booked
    assert booked == min(times, backfill._TRIES)


async def test_an_upgrade_notes_what_is_to_be_summed_up(opened: Database) -> None:
    from app.accounting.migrations.versions import r0005_backfill as revision

    def again(connection: Any) -> None:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        tables.bucket_backfill.drop(connection)
        with Operations.context(MigrationContext.configure(connection)):
            revision.upgrade()

    async with opened.write() as connection:
        await connection.run_sync(again)
    assert await backfill.reached(opened) is None, "the sums are there"
    async with opened.write() as connection:
        await connection.execute(delete(tables.buckets))
        await connection.run_sync(again)
    assert await backfill.reached(opened) == END_US


async def test_sums_go_when_no_range_needs_them(opened: Database) -> None:
    async with opened.write() as connection:
        await connection.execute(delete(tables.requests))
    await retention.tidy(opened, 90, now=NOW + SPANS[60] + 4_000)
    assert (await overview(opened, wanted("1h")))["total"]["requests"] == 0
    assert (await overview(opened, wanted("7d")))["total"]["requests"] == 400


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    predicted = row["detail"].get("predicted", {})
    for name in predicted:
        predicted[name] = round(predicted[name], 6)
    return row
