"""Opens the keys of a configuration's database: for the gateway, and for the command line."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from app.accounting.key_secret import find_or_make_secret
from app.accounting.key_text import IN_USE, Hasher
from app.accounting.place import SQLITE, Place
from app.config.load import Loaded

if TYPE_CHECKING:
    from app.accounting.key_store import KeyStore


def database_url(loaded: Loaded) -> str | None:
    """The ledger's database keeps the keys too; None where there is none."""
    place = Place.compile(loaded.config.ledger, Path(loaded.document.file).parent)
    return None if place is None else place.url


def may_hold_keys(url: str) -> bool:
    """Whether there may be keys in a database, told without opening it.

    A gateway whose database can't be opened serves on, if it is known that nobody has ever made a
    key in it. Of PostgreSQL that is not known: others may have.
    """
    return not url.startswith(SQLITE) or Path(url.removeprefix(SQLITE) + IN_USE).exists()


def key_hasher(loaded: Loaded) -> Hasher:
    """Raises KeySecretError."""
    return Hasher(find_or_make_secret(os.environ, Path(loaded.document.file).parent))


async def open_store(url: str, hasher: Hasher, *, serves: bool = False) -> KeyStore:
    """Raises DatabaseError, KeySecretError, or one of `database.UNAVAILABLE`."""
    # SQLAlchemy takes half a second to load; requests need not wait for it.
    await asyncio.to_thread(import_module, "app.accounting.key_store")
    from app.accounting.database import Database
    from app.accounting.key_store import KeyStore

    store = KeyStore(await Database.open(url), hasher)
    try:
        await store.claim(serves=serves)
    except BaseException:
        await store.close()
        raise
    return store
