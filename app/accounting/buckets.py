"""Sums of short spans, by route and model: what the dashboard draws without reading the rows.

A minute, ten minutes and an hour, each kept for as long as a time range of the page needs it. They
are written in the transaction of their rows, as the daily sums are. What is more than a number
(outcomes, attempts, durations) is in `detail`, as JSON whose leaves are counts or sums, so that
two of them merge by adding.

Durations are counted in bins whose bounds grow by a fifth: a percentile read from them is within
10 % of the true one, or by some ten microseconds where that is more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Dialect, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounting import entries
from app.accounting.inserting import Insert, Row
from app.accounting.tables import MEASURES, buckets

DAY_SECONDS = 86_400
SPANS = {60: 2 * DAY_SECONDS, 600: 8 * DAY_SECONDS, 3600: 40 * DAY_SECONDS}
"""Seconds of a bucket, and for how many seconds it is kept."""
LEAST_SECONDS = 1e-5
RATIO = 1.2
_LOG_RATIO = math.log(RATIO)
_LAST_BIN = 110
"""Begins after an hour and a half."""

Detail = dict[str, Any]
_KEYS = ("span_seconds", "start_us", "route", "model")


def bin_of(seconds: float) -> str:
    """The bin of a duration, as a key of JSON."""
    if seconds <= LEAST_SECONDS:
        return "0"
    return str(min(int(math.log(seconds / LEAST_SECONDS) / _LOG_RATIO), _LAST_BIN))


def percentile(bins: Mapping[str, int], share: float) -> float | None:
    """Seconds below which `share` of what was counted is, by nearest rank; None of nothing."""
    rank = max(math.ceil(share * sum(bins.values())), 1)
    for number in sorted(map(int, bins)):
        rank -= bins[str(number)]
        if rank <= 0:
            return float(LEAST_SECONDS * RATIO ** (number + 0.5))
    return None


def merge(into: Detail, more: Mapping[str, Any]) -> None:
    """Add `more` to `into`, leaf by leaf."""
    for name, value in more.items():
        if isinstance(value, dict):
            merge(into.setdefault(name, {}), value)
        else:
            into[name] = into.get(name, 0) + value


def note(detail: Detail, row: Mapping[str, Any]) -> None:
    """Count a row of `requests` in.

    `outcomes`, `decisions` and, of failures, `statuses` are counts; `duration`, `first_token` and
    `overhead` are bins; `attempts` has by upstream its `outcomes` and its `seconds`, as bins;
    `predicted` is how many requests had predictions, and the sums of the predicted quality of the
    model that served and of the best eligible one.
    """
    _count(detail, "outcomes", row["outcome"])
    _count(detail, "decisions", row["decision"])
    if row["outcome"] not in ("ok", "client_gone"):
        _count(detail, "statuses", str(row["status"]))
    for name in ("duration", "first_token", "overhead"):
        seconds = row[f"{name}_seconds"]
        if seconds is not None:
            _count(detail, name, bin_of(seconds))
    for attempt in row["attempts"]:
        of_upstream = detail.setdefault("attempts", {}).setdefault(attempt["upstream"], {})
        _count(of_upstream, "outcomes", attempt["outcome"])
        _count(of_upstream, "seconds", bin_of(attempt["seconds"]))
    able = {one["model"]: one["quality"] for one in row["predictions"] if one["eligible"]}
    if row["model"] in able:
        told = {"requests": 1, "served": able[row["model"]], "best": max(able.values())}
        merge(detail.setdefault("predicted", {}), told)


class Key(NamedTuple):
    """Of a bucket; `start_us` in microseconds since 1970."""

    span_seconds: int
    start_us: int
    route: str
    model: str


def _minute(row: Mapping[str, Any]) -> Key:
    span = min(SPANS)
    start = row["at_us"] - row["at_us"] % (span * 1_000_000)
    return Key(span, start, row["route"], row["model"] or "none")


def _within(key: Key, span: int) -> Key:
    return key._replace(
        span_seconds=span, start_us=key.start_us - key.start_us % (span * 1_000_000)
    )


Tally = dict[Key, tuple[dict[str, int], Detail]]
"""Sums and details of some rows."""


def tally(rows: Iterable[Row], into: Tally) -> None:
    """Count rows of `requests` in: each in its minute, and minutes are added up."""
    minutes: dict[Key, list[Row]] = {}
    for row in rows:
        minutes.setdefault(_minute(row), []).append(row)
    for minute, mine in minutes.items():
        detail: Detail = {}
        for row in mine:
            note(detail, row)
        told = entries.sums(mine)
        for span in SPANS:
            sums, total = into.setdefault(_within(minute, span), (dict.fromkeys(MEASURES, 0), {}))
            merge(sums, told)
            merge(total, detail)


async def written(connection: AsyncConnection, counted: Tally) -> None:
    """Write what was counted where nothing is there yet."""
    rows = [
        {**key._asdict(), **sums, "detail": detail}
        for key, (sums, detail) in sorted(counted.items())
    ]
    await _prepared(connection.dialect).sums.run(connection, rows)


async def add(connection: AsyncConnection, tallied: Tally) -> None:
    """Add what was counted to what is there."""
    if not tallied:
        return
    prepared = _prepared(connection.dialect)
    # In one order everywhere: processes that add to the same sums must not wait in a circle.
    keys = sorted(tallied)
    added: list[Row] = [{**key._asdict(), **tallied[key][0], "detail": {}} for key in keys]
    # It locks each bucket until the end of the transaction, so what is read next stays true.
    await prepared.sums.run(connection, added)
    details = await _details(connection, keys)
    for key, row in zip(keys, added, strict=True):
        row["detail"] = details[key]
        merge(row["detail"], tallied[key][1])
    await prepared.detail.run(connection, added)


async def tidy(connection: AsyncConnection, now: float) -> None:
    """Delete what no time range needs any more."""
    old = [
        and_(buckets.c.span_seconds == span, buckets.c.start_us < int((now - kept) * 1_000_000))
        for span, kept in SPANS.items()
    ]
    await connection.execute(delete(buckets).where(or_(*old)))


async def _details(connection: AsyncConnection, keys: list[Key]) -> dict[Key, Detail]:
    starts: dict[int, list[int]] = {}
    for key in keys:
        starts.setdefault(key.span_seconds, []).append(key.start_us)
    there = or_(
        *(
            and_(buckets.c.span_seconds == span, buckets.c.start_us.in_(set(some)))
            for span, some in starts.items()
        )
    )
    columns = (*(buckets.c[name] for name in _KEYS), buckets.c.detail)
    found = await connection.execute(select(*columns).where(there))
    return {Key(*key): detail for *key, detail in found}


def _count(detail: Detail, name: str, what: str) -> None:
    counts = detail.setdefault(name, {})
    counts[what] = counts.get(what, 0) + 1


class _Prepared(NamedTuple):
    sums: Insert
    detail: Insert


@cache
def _prepared(dialect: Dialect) -> _Prepared:
    insert: Any = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    statement = insert(buckets)
    keys = list(buckets.primary_key)
    sums = {name: buckets.c[name] + statement.excluded[name] for name in MEASURES}
    detail = {"detail": statement.excluded.detail}
    return _Prepared(
        sums=Insert(statement.on_conflict_do_update(index_elements=keys, set_=sums), dialect),
        detail=Insert(statement.on_conflict_do_update(index_elements=keys, set_=detail), dialect),
    )
