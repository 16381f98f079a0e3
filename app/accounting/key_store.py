"""Keys in the database: made, changed, replaced and revoked, never deleted, for the ledger names
them.

Every change takes the next version under a lock that it holds until it is committed, so versions
become visible in order and who asks for what came after the last one misses nothing. Clocks of
several machines, which disagree, have no say in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    Table,
    Text,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounting.database import Database, metadata
from app.accounting.key_text import IN_USE, Hasher, new_id, new_text
from app.accounting.keyring import Key, caller_of
from app.config import schema
from app.errors import FixedKey, KeySecretError, UnknownKeyId
from app.telemetry.logs import log

_SECOND_US = 1_000_000

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("former_hash", Text),
    Column("former_until_us", BigInteger),
    Column("terms", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Column("version", BigInteger, nullable=False),
    Index("keys_version", "version", unique=True),
)
"""A row a key: what it is for as `schema.KeyTerms`, and hashes of its text, never the text."""

key_changes = Table(
    "key_changes",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("secret_mark", Text),
)
"""One row: the version of the last change, and `Hasher.mark` of the key secret in use."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key as the database keeps it; moments in seconds since 1970."""

    id: str
    hash: str
    former_hash: str | None
    former_until: float | None
    terms: schema.KeyTerms
    created: float
    revoked: float | None
    version: int

    def key(self, hasher: Hasher) -> Key:
        """For the keyring. Raises OtherSecret."""
        expires = self.terms.expires
        return Key(
            caller=caller_of(self.id, self.terms),
            digest=hasher.read(self.hash),
            expires=None if expires is None else expires.timestamp(),
            revoked=self.revoked,
            former=None if self.former_hash is None else hasher.read(self.former_hash),
            former_until=self.former_until or 0.0,
        )


class KeyStore:
    """Keys in an open database. Raises one of `database.UNAVAILABLE` where it can't be reached."""

    def __init__(
        self, database: Database, hasher: Hasher, clock: Callable[[], float] = time
    ) -> None:
        self.hasher = hasher
        self._database = database
        self._clock = clock

    async def claim(self, *, serves: bool) -> None:
        """Note the key secret as the one of this database, or find that another one is.

        Else a command run without the gateway's environment would make keys that the gateway
        refuses. A gateway takes up a new secret once no key holds that was made with another.
        Raises KeySecretError.
        """
        ours = key_changes.c.secret_mark == self.hasher.mark
        async with self._database.read() as connection:
            if await connection.scalar(select(key_changes.c.one).where(ours)):
                return
        async with self._database.write() as connection:
            free: ColumnElement[bool] = key_changes.c.secret_mark.is_(None)
            if serves:
                others = keys.c.hash.not_like(f"%:{self.hasher.mark}:%")
                free |= ~exists().where(keys.c.revoked_us.is_(None), others)
            mine = update(key_changes).where(free | ours).values(secret_mark=self.hasher.mark)
            if not (await connection.execute(mine)).rowcount:
                raise KeySecretError(
                    "the keys of this database are hashed with another key secret: set "
                    "POINTSMAN_KEY_SECRET to that one, or bring back its .pointsman/key-secret"
                )

    async def create(self, terms: schema.KeyTerms) -> tuple[KeptKey, str]:
        """A new key and its text, which is kept nowhere."""
        key_id = new_id()
        text = new_text(key_id)
        self.note_in_use()
        async with self._database.write() as connection:
            row = {
                "id": key_id,
                "hash": self.hasher.written(text),
                "terms": terms.model_dump(mode="json"),
                "created_us": self._now_us(),
                "version": await _next_version(connection),
            }
            await connection.execute(insert(keys).values(row))
            return await _get(connection, key_id), text

    async def all(self) -> list[KeptKey]:
        """Every key, the oldest first; revoked ones as well."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(keys).order_by(keys.c.created_us, keys.c.id))
            return [_kept(row) for row in rows]

    async def get(self, key_id: str) -> KeptKey:
        """Raises UnknownKeyId."""
        async with self._database.read() as connection:
            return await _get(connection, key_id)

    async def since(self, version: int) -> list[KeptKey]:
        """What has changed after a version, in order. A key with terms that only a newer version
        knows is closed: no text opens it."""
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(keys).where(keys.c.version > version).order_by(keys.c.version)
            )
            return [self._understood(row) for row in rows]

    async def change(self, key_id: str, changed: schema.KeyTerms) -> KeptKey:
        """Replace those terms that were set in `changed`. Raises UnknownKeyId or FixedKey."""
        named = {name: getattr(changed, name) for name in changed.model_fields_set}
        async with self._database.write() as connection:
            version = await _next_version(connection)
            terms = (await _unrevoked(connection, key_id)).terms.model_copy(update=named)
            values = {"terms": terms.model_dump(mode="json"), "version": version}
            return await _set(connection, key_id, values)

    async def rotate(self, key_id: str, grace_seconds: float) -> tuple[KeptKey, str]:
        """A new text for a key; the one before holds for a grace. One before that ends at once.

        Raises UnknownKeyId or FixedKey.
        """
        text = new_text(key_id)
        async with self._database.write() as connection:
            version = await _next_version(connection)
            before = await _unrevoked(connection, key_id)
            values = {
                "hash": self.hasher.written(text),
                "former_hash": before.hash,
                "former_until_us": self._now_us() + round(grace_seconds * _SECOND_US),
                "version": version,
            }
            return await _set(connection, key_id, values), text

    async def revoke(self, key_id: str) -> KeptKey:
        """End a key for good, with every text of it. Raises UnknownKeyId."""
        async with self._database.write() as connection:
            version = await _next_version(connection)
            before = await _get(connection, key_id)
            if before.revoked is not None:
                return before
            return await _set(
                connection, key_id, {"revoked_us": self._now_us(), "version": version}
            )

    def note_in_use(self) -> None:
        """Let everybody know that there may be keys here, also who can't open the database."""
        if self._database.is_sqlite:
            Path(f"{self._database.engine.url.database}{IN_USE}").touch(mode=0o600)

    async def close(self) -> None:
        await self._database.close()

    def _understood(self, row: Any) -> KeptKey:
        try:
            return _kept(row)
        except ValidationError:
            log.warning("key %s has terms that this version does not know: not valid here", row.id)
            closed = row._asdict() | {"hash": self.hasher.none, "former_hash": None, "terms": {}}
            return _kept(SimpleNamespace(**closed))

    def _now_us(self) -> int:
        return round(self._clock() * _SECOND_US)


async def _next_version(connection: AsyncConnection) -> int:
    """Locks the one row: on PostgreSQL whoever comes next waits here for the commit."""
    statement = update(key_changes).values(version=key_changes.c.version + 1)
    return int((await connection.execute(statement.returning(key_changes.c.version))).scalar_one())


async def _get(connection: AsyncConnection, key_id: str) -> KeptKey:
    row = (await connection.execute(select(keys).where(keys.c.id == key_id))).one_or_none()
    if row is None:
        raise UnknownKeyId(f"There is no key `{key_id[:64]}`.")
    return _kept(row)


async def _unrevoked(connection: AsyncConnection, key_id: str) -> KeptKey:
    key = await _get(connection, key_id)
    if key.revoked is not None:
        raise FixedKey(f"Key {key_id} is revoked, which is for good: make a new one.")
    return key


async def _set(connection: AsyncConnection, key_id: str, values: dict[str, Any]) -> KeptKey:
    await connection.execute(update(keys).where(keys.c.id == key_id).values(values))
    return await _get(connection, key_id)


def _kept(row: Any) -> KeptKey:
    return KeptKey(
        id=row.id,
        hash=row.hash,
        former_hash=row.former_hash,
        former_until=_seconds(row.former_until_us),
        terms=schema.KeyTerms.model_validate(row.terms),
        created=row.created_us / _SECOND_US,
        revoked=_seconds(row.revoked_us),
        version=row.version,
    )


def _seconds(moment_us: int | None) -> float | None:
    return None if moment_us is None else moment_us / _SECOND_US
