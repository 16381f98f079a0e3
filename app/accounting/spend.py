"""What was spent, on what: the question that `pointsman spend` and the dashboard ask the ledger.

Whole days are read from the daily sums, which outlive the rows and are quick; other spans from the
rows themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    select,
    true,
)

from app.accounting.database import Database
from app.accounting.periods import PeriodName
from app.accounting.refusal import Scope
from app.accounting.tables import DAY_US, MEASURES, daily, daily_tags, requests

By = Literal["model", "route", "key", "tag", "day", "upstream"]
BY: tuple[By, ...] = get_args(By)
_COLUMNS = {"model": "model", "route": "route", "key": "key_id", "upstream": "upstream"}
_SCOPES: tuple[tuple[Scope, Table, str | None], ...] = (
    ("gateway", daily, None),
    ("route", daily, "route"),
    ("key", daily, "key_id"),
    ("tag", daily_tags, "tag"),
)
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over some requests; money in nano-dollars.

    `unpriced` requests called an upstream at a cost that is unknown: they are in no sum.
    """

    name: str
    requests: int
    failed: int
    unpriced: int
    estimated: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    baseline_cost_nano: int
    saved_nano: int

    @property
    def cost(self) -> int | None:
        """None where no cost at all is known and some is missing: that is not the same as 0."""
        return None if self.unpriced and not self.cost_nano else self.cost_nano


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent from `since` to before `until`, the dearest first (days in their order)."""

    since: datetime
    until: datetime
    by: By
    rows: tuple[Spent, ...]
    total: Spent
    """Each request once, also where one with two tags is in two rows."""


async def spending(database: Database, by: By, since: datetime, until: datetime) -> Spending:
    """Sums by `by`. Both times have a zone."""
    first, last = _microseconds(since), _microseconds(until)
    if first % DAY_US == 0 and last % DAY_US == 0:
        grouped, in_all = _from_days(by, first, last), _from_days(None, first, last)
    else:
        source, tag = _tagged(sqlite=database.is_sqlite)
        grouped = _from_rows(by, first, last, source, tag)
        in_all = _from_rows(None, first, last, requests, tag)
    async with database.read() as connection:
        found = [_spent(row) for row in (await connection.execute(grouped)).mappings()]
        total = _spent((await connection.execute(in_all)).mappings().one())
    if by == "day":
        found = [replace(row, name=str(_EPOCH + timedelta(int(row.name)))) for row in found]
        found.sort(key=lambda row: row.name)
    else:
        found.sort(key=lambda row: (-row.cost_nano, -row.requests, row.name))
    return Spending(since, until, by, tuple(found), total)


async def since(
    url: str, starts: Mapping[PeriodName, float]
) -> list[tuple[Scope, str, PeriodName, int]]:
    """What each scope has spent since the start of each period, which begins a UTC day: scope
    (`gateway`, `route`, `key` or `tag`), its name, the period, nano-dollars.

    Raises one of UNAVAILABLE, or DatabaseError.
    """
    database = await Database.open(url)
    found = []
    try:
        async with database.read() as connection:
            for period, start in starts.items():
                for scope, table, column in _SCOPES:
                    name = literal("") if column is None else table.c[column]
                    grouped = select(name, func.sum(table.c.cost_nano)).where(
                        table.c.day >= int(start * 1_000_000) // DAY_US
                    )
                    if column is not None:
                        grouped = grouped.where(name != "none").group_by(name)
                    rows = await connection.execute(grouped)
                    found += [(scope, str(who), period, int(nano)) for who, nano in rows if nano]
    finally:
        await database.close()
    return found


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _from_days(by: By | None, first: int, last: int) -> Select[Any]:
    table = daily_tags if by == "tag" else daily
    name = literal("total") if by is None else table.c[_COLUMNS.get(by, by)]
    sums = {measure: func.sum(table.c[measure]) for measure in MEASURES}
    days = (table.c.day >= first // DAY_US) & (table.c.day < last // DAY_US)
    return _grouped(by, name, sums).where(days)


def _from_rows(
    by: By | None, first: int, last: int, tagged: FromClause, tag: ColumnElement[Any]
) -> Select[Any]:
    name: ColumnElement[Any]
    match by:
        case None:
            name = literal("total")
        case "tag":
            name = func.coalesce(tag, "none")
        case "day":
            name = requests.c.at_us // literal(DAY_US, BigInteger)
        case _:
            name = func.coalesce(requests.c[_COLUMNS[by]], "none")
    span = (requests.c.at_us >= first) & (requests.c.at_us < last)
    source = tagged if by == "tag" else requests
    return _grouped(by, name, _measures()).select_from(source).where(span)


def _tagged(*, sqlite: bool) -> tuple[FromClause, ColumnElement[Any]]:
    """Requests with each of their tags, those without one too."""
    if sqlite:
        tags = func.json_each(requests.c.tags).table_valued("value", name="tagged")
        return requests.outerjoin(tags, true()), tags.c.value
    each = func.jsonb_array_elements_text(requests.c.tags).table_valued("value", name="tagged")
    lateral = each.render_derived().lateral()
    return requests.outerjoin(lateral, true()), lateral.c.value


def _grouped(by: By | None, name: ColumnElement[Any], sums: dict[str, Any]) -> Select[Any]:
    whole = [
        cast(func.coalesce(total, 0), BigInteger).label(measure) for measure, total in sums.items()
    ]
    statement = select(name.label("name"), *whole)
    return statement if by is None else statement.group_by("name")


def _measures() -> dict[str, ColumnElement[Any]]:
    """The sums of `entries.sums`, as the database makes them."""
    c = requests.c

    def count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((condition, 1), else_=0))

    told = {
        "requests": func.count(c.id),
        "failed": count(c.outcome.not_in(["ok", "client_gone"])),
        "unpriced": count(c.cost_nano.is_(None) & (cast(c.attempts, Text) != "[]")),
        "estimated": count(c.cost_estimated),
        "baseline_cost_nano": func.sum(case((c.saved_nano.is_not(None), c.baseline_cost_nano))),
    }
    return {name: told.get(name, func.sum(c.get(name))) for name in MEASURES}


def _spent(row: Any) -> Spent:
    return Spent(str(row["name"]), **{name: int(row[name]) for name in MEASURES})
