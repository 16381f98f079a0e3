"""`pointsman spend`: the same figures for people, machines and spreadsheets."""

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from app.accounting.booking import book
from app.accounting.database import Database
from app.cli.spend import Moment, command
from app.errors import DatabaseError
from tests.unit.accounting.records import lines, record

CONFIG = """
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models: {small: {upstream: u}}
routes: {auto: {candidates: [small], router: null}}
ledger: LEDGER
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(CONFIG.replace("LEDGER", "{url: 'sqlite:///kept/here.db'}"))
    return file


@pytest.fixture
def ledger(tmp_path: Path) -> None:
    async def fill() -> None:
        database = await Database.open(f"sqlite:///{tmp_path}/kept/here.db")
        now = datetime.now(UTC).timestamp()
        written = lines(
            record(1, at=now, cost=2_000_000_000, baseline_cost=8_000_000_000),
            record(2, at=now, cost=None, model="=HYPERLINK()", tags=("x", "y")),
            record(3, at=now - 3 * 86_400, model="[red]old[/red]", cost=7),
        )
        await book(database, "s", written, written[-1].end)
        await database.close()

    asyncio.run(fill())


def spend(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--config", str(config), *arguments])


@pytest.mark.usefixtures("ledger")
def test_for_people(config: Path) -> None:
    shown = spend(config)
    assert shown.exit_code == 0, shown.output
    small = next(line for line in shown.output.splitlines() if line.strip().startswith("small"))
    assert small.split() == ["small", "1", "0", "100", "20", "2.00", "6.00", "75.0%", "0"]
    assert "unknown" in next(line for line in shown.output.splitlines() if "HYPERLINK" in line)
    assert "[red]old[/red]" in shown.output
    assert "0.000000007" in shown.output
    assert "1 of 3 requests are of unknown cost and in no sum" in shown.output


@pytest.mark.usefixtures("ledger")
def test_for_machines(config: Path) -> None:
    told: dict[str, Any] = orjson.loads(spend(config, "--json", "--by", "tag").output)
    assert told["by"] == "tag"
    by_tag = {row["tag"]: row for row in told["rows"]}
    assert set(by_tag) == {"team-a", "x", "y"}
    assert by_tag["team-a"]["cost_usd"] == "2.000000007"
    assert by_tag["x"]["cost_usd"] is None
    assert by_tag["x"]["unpriced"] == 1
    assert told["total"]["requests"] == 3
    assert told["total"]["saved_usd"] == "6.000004993"


@pytest.mark.usefixtures("ledger")
def test_for_spreadsheets(config: Path) -> None:
    found = list(csv.DictReader(io.StringIO(spend(config, "--csv").output)))
    assert [row["model"] for row in found] == ["small", "[red]old[/red]", "'=HYPERLINK()"]
    assert found[0]["cost_usd"] == "2"
    assert found[2]["cost_usd"] == ""


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("arguments", "requests"),
    [
        (["--since", "1d"], 2),
        (["--since", "1h"], 2),
        (["--since", "4d"], 3),
        (["--since", "1w", "--until", "1d"], 1),
        (["--since", "2000-01-01"], 3),
    ],
)
def test_spans(config: Path, arguments: list[str], requests: int) -> None:
    told = orjson.loads(spend(config, "--json", *arguments).output)
    assert told["total"]["requests"] == requests


@pytest.mark.usefixtures("ledger")
def test_who_asks_for_rows_that_are_gone_is_told(config: Path) -> None:
    shown = spend(config, "--since", "2020-01-01T10:00")
    assert "give whole days" in shown.output
    assert "give whole days" not in spend(config, "--since", "2020-01-01").output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert Moment().convert(text, None, None) == expected


def test_days_begin_at_midnight() -> None:
    week = Moment().convert("7d", None, None)
    assert (week.hour, week.minute, week.second, week.microsecond) == (0, 0, 0, 0)
    assert timedelta(6) <= datetime.now(UTC) - week < timedelta(7)
    assert Moment().convert("1w", None, None) == week


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "neither 7d, 12h, 2026-11-01"),
        (["--since", "2026-11-02", "--until", "2026-11-02"], "is not before --until"),
        (["--json", "--csv"], "not both"),
        (["--by", "user"], "'user' is not one of"),
    ],
)
def test_what_makes_no_sense_is_said(config: Path, arguments: list[str], said: str) -> None:
    shown = spend(config, *arguments)
    assert shown.exit_code == 2
    assert said in shown.output


def test_no_ledger_is_said(config: Path) -> None:
    shown = spend(config)
    assert isinstance(shown.exception, DatabaseError)
    assert "nothing was served with" in str(shown.exception)
    assert not (config.parent / "kept").exists()
    for nothing in ("null", "{url: null}"):
        config.write_text(CONFIG.replace("LEDGER", nothing))
        assert "keeps no ledger" in str(spend(config).exception)
    config.write_text(CONFIG.replace("LEDGER", "{url: 'postgresql://me:secret@127.0.0.1:1/x'}"))
    shown = spend(config)
    assert "the ledger can't be read" in str(shown.exception)
    assert "secret" not in str(shown.exception)
