"""`pointsman keys`: make, list, replace and revoke keys, straight in the configuration's database.

A running gateway follows within half a second. `hash` needs no database: its entry goes into the
YAML.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from app.cli.options import config_file

if TYPE_CHECKING:
    from app.accounting.key_store import KeyStore
    from app.config import schema
    from app.config.load import Loaded

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KEEP = "Keep the key now: it is shown this once, and only its hash is kept."
Done = TypeVar("Done")


@click.group(name="keys")
def command() -> None:
    """Make, list, replace and revoke the keys of clients."""


def _common(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every command."""
    function = click.option("--json", "as_json", is_flag=True, help="For machines.")(function)
    return config_file("The YAML that the gateway serves.")(function)


def _terms(function: Callable[..., None]) -> Callable[..., None]:
    """What a key is for."""
    for option in reversed(
        (
            click.option("--name", help="For people."),
            click.option("--route", "routes", multiple=True, help="It may ask for; repeatable."),
            click.option("--model", "models", multiple=True, help="It may name; repeatable."),
            click.option("--admin", is_flag=True, help="It may use /admin and the dashboard."),
            click.option("--metrics", is_flag=True, help="It may read /metrics."),
            click.option("--nothing", is_flag=True, help="No route, no model."),
            click.option("--expires", help="A date, a moment, or from now on: 30d, 12h."),
            click.option("--tag", "tags", multiple=True, help="Its requests are booked under."),
            click.option(
                "--limit", "limits", multiple=True, metavar="NAME=NUMBER",
                help="As usd_per_day=5 or requests_per_minute=60; repeatable.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@command.command()
@_terms
@_common
def create(file: Path, as_json: bool, **options: Any) -> None:
    """Make a key. Without --route and --model it may ask for all of them."""
    loaded, terms = _checked(file, options)
    key, text = _run(loaded, lambda store: store.create(terms))
    if as_json:
        click.echo(orjson.dumps({**_account(key), "key": text}))
        return
    click.echo(text)
    click.echo(_KEEP, err=True)


@command.command(name="list", short_help="List every key, also those that have ended.")
@_common
def list_(file: Path, as_json: bool) -> None:
    """List every key, also those that have ended; never a text or a hash."""
    from time import time

    from app.accounting.key_account import account_of_declared
    from app.accounting.key_opening import database_url
    from app.config.load import load

    loaded = load(file)
    told = [account_of_declared(key, time()) for key in loaded.config.keys]
    if database_url(loaded) is not None:
        told += [_account(key) for key in _run(loaded, lambda store: store.all())]
    if as_json:
        click.echo(orjson.dumps(told))
        return
    if not told:
        click.echo(f"{file} has no key yet: `pointsman keys create` makes one.", err=True)
        return
    _show(told)


@command.command()
@click.argument("key_id")
@_common
def revoke(file: Path, key_id: str, as_json: bool) -> None:
    """End a key for good."""
    loaded = _changeable(file, key_id)
    key = _run(loaded, lambda store: store.revoke(key_id))
    click.echo(orjson.dumps(_account(key)) if as_json else f"Key {key.id} is revoked.")


@command.command()
@click.argument("key_id")
@click.option("--grace", default="1h", show_default=True, help="How long the text before goes on.")
@_common
def rotate(file: Path, key_id: str, grace: str, as_json: bool) -> None:
    """Give a key a new text; the one before goes on for a while."""
    seconds = _seconds(grace)
    if seconds is None or seconds > 30 * _UNITS["d"]:
        raise click.BadParameter(
            "give a time of at most 30d, such as 0s, 1h or 2d", param_hint="--grace"
        )
    loaded = _changeable(file, key_id)
    key, text = _run(loaded, lambda store: store.rotate(key_id, seconds))
    if as_json:
        click.echo(orjson.dumps({**_account(key), "key": text}))
        return
    click.echo(text)
    click.echo(_KEEP, err=True)


@command.command(name="hash", short_help="Make a key for the YAML; no database is needed.")
@_terms
@_common
def hash_(file: Path, as_json: bool, **options: Any) -> None:
    """Make a key and print its entry for the `keys` of the YAML; no database is needed."""
    from app.accounting.key_opening import key_hasher
    from app.accounting.key_text import new_id, new_text

    loaded, terms = _checked(file, options)
    key_id = new_id()
    text = new_text(key_id)
    written = terms.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    entry = {"id": key_id, "hash": key_hasher(loaded).written(text), **written}
    if as_json:
        click.echo(orjson.dumps({"key": text, "entry": entry}))
        return
    # The entry alone goes to standard output: it may be redirected into the file.
    click.echo(text, err=True)
    click.echo(_KEEP, err=True)
    click.echo(f"- {orjson.dumps(entry).decode()}")


def _checked(file: Path, options: dict[str, Any]) -> tuple[Loaded, schema.KeyTerms]:
    """The configuration, and terms that name what is in it."""
    from pydantic import ValidationError

    from app.config import schema
    from app.config.load import first_mistake, load
    from app.config.names import nearest

    loaded = load(file)
    config = loaded.config
    words = {*config.routes, *(a for route in config.routes.values() for a in route.aliases)}
    scoped = bool(options["routes"] or options["models"] or options["nothing"])
    for option, known in (("routes", words), ("models", set(config.models))):
        for name in options[option]:
            if name not in known:
                kind = option[:-1]
                hint = nearest(name, known)
                told = f"no {kind} named `{name}`" + (f" ({hint})" if hint else "")
                raise click.BadParameter(told, param_hint=f"--{kind}")
    for tag in options["tags"]:
        hint = nearest(tag, config.tags) or ""
        if tag not in config.tags and hint.startswith("did you mean"):
            # Valid all the same: a tag that has no limits is a label.
            click.echo(f"note: no entry of `tags` is named `{tag}` ({hint})", err=True)
    try:
        terms = schema.KeyTerms.model_validate(
            {
                "name": options["name"],
                "routes": list(options["routes"]) if scoped else None,
                "models": list(options["models"]) if scoped else None,
                "admin": options["admin"],
                "metrics": options["metrics"],
                "expires": _expiry(options["expires"]),
                "tags": list(options["tags"]),
                "limits": _limits(options["limits"]),
            }
        )
    except ValidationError as error:
        place, wrong = first_mistake(error, schema.KeyTerms)
        if place == "expires":
            wrong += ", or from now on, such as 30d or 12h"
        raise click.UsageError(f"{place}: {wrong}") from None
    if terms.expires is not None and terms.expires <= datetime.now(UTC):
        raise click.BadParameter("is in the past", param_hint="--expires")
    return loaded, terms


def _changeable(file: Path, key_id: str) -> Loaded:
    from app.config.load import load
    from app.errors import FixedKey

    loaded = load(file)
    if any(key.id == key_id for key in loaded.config.keys):
        raise FixedKey(f"Key {key_id} is declared in {file}: change it there.")
    return loaded


def _run(loaded: Loaded, work: Callable[[KeyStore], Awaitable[Done]]) -> Done:
    """Do something with the keys in the database. Raises DatabaseError where it can't be used."""
    from app.accounting.key_opening import database_url, key_hasher, open_store
    from app.errors import DatabaseError

    url = database_url(loaded)
    if url is None:
        raise DatabaseError(
            "no database is configured: `pointsman keys hash` makes an entry for its `keys`"
        )

    async def within() -> Done:
        from app.accounting.database import UNAVAILABLE

        try:
            store = await open_store(url, key_hasher(loaded))
            try:
                return await work(store)
            finally:
                await store.close()
        except UNAVAILABLE as error:
            raise DatabaseError(
                f"the database can't be reached ({type(error).__name__}); see `ledger.url`"
            ) from None

    return asyncio.run(within())


def _account(key: Any) -> dict[str, Any]:
    from time import time

    from app.accounting.key_account import account

    return account(key, time())


def _show(told: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "status", "expires"):
        table.add_column(heading, no_wrap=True)
    for heading in ("name", "may ask for; limits; tags"):
        table.add_column(heading, overflow="fold")
    for key in told:
        expires = (key["expires"] or "never").partition("T")[0]
        name = key["name"] if key["name"] != key["id"] else ""
        table.add_row(key["id"], key["status"], expires, escape(name), escape(_terms_told(key)))
    console = Console()
    # Into a file or a pipe a key is a line.
    (console if console.is_terminal else Console(width=400)).print(table)


def _terms_told(key: dict[str, Any]) -> str:
    limits = {name: value for name, value in (key["limits"] or {}).items() if value is not None}
    limits.pop("soft_share", None)
    parts = [
        _scope(key),
        ", ".join(f"{name}={value}" for name, value in limits.items()),
        "tags " + ", ".join(key["tags"]) if key["tags"] else "",
        "declared in the YAML" if key["source"] == "config" else "",
    ]
    return "; ".join(part for part in parts if part)


def _scope(key: dict[str, Any]) -> str:
    names: str = "everything"
    if key["routes"] is not None:
        names = ", ".join([*key["routes"], *key["models"]]) or "nothing"
    extra = [scope for scope in ("admin", "metrics") if key[scope]]
    return ", ".join([names, *extra])


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    return int(match.group(1)) * _UNITS[match.group(2)] if match else None


def _expiry(text: str | None) -> str | datetime | None:
    seconds = _seconds(text) if text else None
    if seconds is None:
        return text
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    except OverflowError:
        raise click.BadParameter("is too far away", param_hint="--expires") from None


def _limits(given: tuple[str, ...]) -> dict[str, str] | None:
    if not given:
        return None
    pairs = [one.partition("=") for one in given]
    for name, equals, _ in pairs:
        if not equals:
            raise click.BadParameter(f"`{name}` is not NAME=NUMBER", param_hint="--limit")
    return {name: value for name, _, value in pairs}
