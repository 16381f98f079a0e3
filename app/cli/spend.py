"""`pointsman spend`: what was spent, on what, from the ledger."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from app.cli.options import config_file
from app.errors import DatabaseError
from app.exchange.money import NANO_PER_DOLLAR, usd_text

if TYPE_CHECKING:
    from app.accounting.spend import By, Spending, Spent

_BY = ("model", "route", "key", "tag", "day", "upstream")
_SPAN = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MONEY = {"cost_nano": "cost_usd", "baseline_cost_nano": "baseline_usd", "saved_nano": "saved_usd"}


class Moment(click.ParamType[datetime]):
    """A date, a time, or how long ago; days ago begin at midnight. All in UTC."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        now = datetime.now(UTC)
        if match := _SPAN.fullmatch(value):
            count, unit = int(match[1]), match[2]
            if unit in "mh":
                return now - timedelta(**{_UNITS[unit]: count})
            days = count * (7 if unit == "w" else 1)
            # Today is one of them, so that the sums are of whole days.
            return _midnight(now) - timedelta(days=days - 1)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither 7d, 12h, 2026-11-01 nor 2026-11-01T10:00", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@click.command(name="spend")
@click.option(
    "--by", type=click.Choice(_BY), default="model", show_default=True, help="A line for each."
)
@click.option(
    "--since",
    type=Moment(),
    default="7d",
    show_default=True,
    help="7d: today and the six days before; 2w; 12h; 30m; 2026-11-01; 2026-11-01T10:00. UTC.",
)
@click.option("--until", type=Moment(), help="The same; up to, and without, that moment.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")
@config_file("The YAML whose ledger is read.")
def command(
    by: By, since: datetime, until: datetime | None, as_json: bool, as_csv: bool, file: Path
) -> None:
    """Show what was spent by model, route, key, tag, day or upstream.

    What is of unknown cost is counted apart and is in no sum.
    """
    import asyncio

    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    until = until or _midnight(datetime.now(UTC)) + timedelta(days=1)
    if since >= until:
        raise click.UsageError(f"--since {since:%Y-%m-%dT%H:%M} is not before --until")
    url, retention_days = _place(file)
    found = asyncio.run(_read(url, by, since, until))
    if as_json:
        click.echo(orjson.dumps(_document(found)))
    elif as_csv:
        _write_csv(found)
    else:
        _show(found)
    rows_begin = datetime.now(UTC) - timedelta(days=retention_days)
    if since < rows_begin and not _whole_days(since, until):
        older = f"Rows older than {retention_days} days are gone"
        click.echo(f"{older}: give whole days, whose sums are kept.", err=True)


def _place(file: Path) -> tuple[str, int]:
    from app.accounting.place import SQLITE, Place
    from app.config.load import load

    written = load(file).config.ledger
    place = Place.compile(written, file.parent)
    if written is None or place is None:
        raise DatabaseError(f"{file} keeps no ledger: `ledger` or its `url` is null")
    if place.url.startswith(SQLITE) and not Path(place.url.removeprefix(SQLITE)).exists():
        raise DatabaseError(
            f"{place.url.removeprefix(SQLITE)} is not there: nothing was served with {file} yet"
        )
    return place.url, written.retention_days


async def _read(url: str, by: By, since: datetime, until: datetime) -> Spending:
    from app.accounting.database import UNAVAILABLE, Database
    from app.accounting.spend import spending

    try:
        database = await Database.open(url)
        try:
            return await spending(database, by, since, until)
        finally:
            await database.close()
    except UNAVAILABLE as error:
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise DatabaseError(f"the ledger can't be read: {cause}") from None


def _document(found: Spending) -> dict[str, Any]:
    return {
        "since": found.since,
        "until": found.until,
        "by": found.by,
        "rows": [{found.by: row.name, **_figures(row)} for row in found.rows],
        "total": _figures(found.total),
    }


def _figures(row: Spent) -> dict[str, Any]:
    """Sums with money in dollars, as decimal strings; null where nothing is known of it."""
    figures = asdict(row)
    del figures["name"]
    money: dict[str, str | None] = {
        word: usd_text(figures.pop(name)) for name, word in _MONEY.items()
    }
    if row.cost is None:
        money |= dict.fromkeys(money)
    return figures | money


def _write_csv(found: Spending) -> None:
    names = [found.by, *_figures(found.total)]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        writer.writerow({found.by: _harmless(row.name), **_figures(row)})


def _harmless(name: str) -> str:
    """A spreadsheet takes what begins like a formula for one, and tags are anybody's."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def _show(found: Spending) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # "Until midnight" is of the day before, as people speak of days.
    last = found.until - timedelta(microseconds=1)
    form = "%Y-%m-%d" if _whole_days(found.since, found.until) else "%Y-%m-%d %H:%M"
    title = f"Spent from {found.since:{form}} to {last:{form}}, UTC"
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(found.by, overflow="fold")
    headings = ["requests", "failed", "input", "output", "cost $", "saved $", "saved", "unpriced"]
    if not found.total.unpriced:
        headings.pop()
    for heading in headings:
        # Where a terminal is narrow names fold, and never a figure.
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(escape(row.name), *_cells(row)[: len(headings)])
    table.add_section()
    table.add_row("total", *_cells(found.total)[: len(headings)], style="bold")
    console = Console()
    (console if console.is_terminal else Console(width=118)).print(table)
    total = found.total
    if total.unpriced:
        share = f"{total.unpriced:,} of {total.requests:,} requests"
        click.echo(f"{share} are of unknown cost and in no sum: a price or the usage is missing.")
    if total.estimated:
        click.echo(f"The cost of {total.estimated:,} requests is estimated.")


def _cells(row: Spent) -> list[str]:
    known = row.cost is not None
    base = row.baseline_cost_nano
    return [
        f"{row.requests:,}",
        f"{row.failed:,}",
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        _dollars(row.cost_nano) if known else "unknown",
        _dollars(row.saved_nano) if known else "-",
        f"{row.saved_nano / base:.1%}" if known and base > 0 else "-",
        f"{row.unpriced:,}",
    ]


def _dollars(nano: int) -> str:
    """To the cent, less than a dollar to the millionth, less than that as it is."""
    if 0 < abs(nano) < 1_000:
        return usd_text(nano)
    dollars = nano / NANO_PER_DOLLAR
    return f"{dollars:,.2f}" if abs(dollars) >= 1 or not nano else f"{dollars:.6f}"


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _whole_days(since: datetime, until: datetime) -> bool:
    return _midnight(since) == since and _midnight(until) == until
