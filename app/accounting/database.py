"""The gateway's one database: engine, tables and migrations, for all that outlives a process.

SQLite in WAL mode or PostgreSQL, the same code over both. Who keeps something here declares its
tables on `metadata` and adds a revision to `migrations/versions`. Import it late: SQLAlchemy takes
half a second that `pointsman check` need not pay.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, MetaData, event, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.accounting.migrations import HEAD, REVISIONS
from app.errors import DatabaseError
from app.telemetry.logs import log

metadata = MetaData()
"""Every table of the gateway. Migrations make them; a test holds the two together."""

CONNECT_SECONDS = 5.0
LOCK_SECONDS = 5.0
"""How long a statement waits for another process's lock on SQLite."""
STATEMENT_SECONDS = 20.0
"""How long PostgreSQL may take for one statement before the connection is given up."""

UNAVAILABLE = (OSError, TimeoutError, DBAPIError)
"""What a database that is locked, full or gone raises; anything else is a mistake of ours."""

_MIGRATION_LOCK = "migrations"


class Database:
    """An open database whose schema is the one this version knows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(writes=True)

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect, and bring the schema up to date, keeping the data.

        `url` is `sqlite:////absolute/path` or `postgresql://user:password@host/name`. Several
        processes may open one database at the same moment. Raises DatabaseError where the address
        can't be used or the schema is newer than this version knows, and one of UNAVAILABLE where
        the database can't be reached now.
        """
        database = cls(_engine(_driver_url(url)))
        try:
            await database._migrate()
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that writes: committed at the end, rolled back by an exception.

        On SQLite it holds the one write lock from its beginning, so that it can't fail halfway for
        having read first.
        """
        return self._writing.begin()

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads; never waits for those that write."""
        return self.engine.begin()

    @asynccontextmanager
    async def alone(self, purpose: str) -> AsyncIterator[bool]:
        """Whether nobody else does `purpose` now; if true, nobody else will until the end."""
        if self.is_sqlite:
            # The lock file stays: removing it would let two processes lock two files.
            path = f"{self.engine.url.database}.{purpose}.lock"
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                yield _flock(handle)
            finally:
                os.close(handle)
            return
        async with self.engine.connect() as connection:
            key = lock_key(purpose)
            mine = await connection.scalar(select(func.pg_try_advisory_lock(key)))
            await connection.commit()
            try:
                yield bool(mine)
            finally:
                if mine:
                    await connection.execute(select(func.pg_advisory_unlock(key)))

    async def close(self) -> None:
        await self.engine.dispose()

    async def _migrate(self) -> None:
        async with self.read() as connection:
            if await connection.run_sync(self._is_current):
                return
        # It would tell of each step; the one line below is enough.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        await asyncio.to_thread(import_module, "alembic.command")
        async with self.write() as connection:
            if not self.is_sqlite:
                lock = func.pg_advisory_xact_lock(lock_key(_MIGRATION_LOCK))
                await connection.execute(select(lock))
            # Whoever waited for the lock looks again: the work may have been done meanwhile.
            if not await connection.run_sync(self._is_current):
                await connection.run_sync(_upgrade)
                log.info("the database's schema is now at %s", HEAD)

    def _is_current(self, connection: Connection) -> bool:
        if not inspect(connection).has_table("alembic_version"):
            return False
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if revision is not None and revision not in REVISIONS:
            place = self.engine.url.render_as_string(hide_password=True)
            raise DatabaseError(
                f"{place} was made by a newer Pointsman: its schema is at `{revision}`, this "
                f"version knows up to `{HEAD}`. Run the newer version, or name another database."
            )
        return bool(revision == HEAD)


def lock_key(purpose: str) -> int:
    """PostgreSQL's advisory locks have numbers; these are unlikely to be anybody else's."""
    return 0x706F696E << 32 | zlib.crc32(purpose.encode())


def _flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads options as a configparser does, to which a percent sign is special.
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _driver_url(written: str) -> URL:
    try:
        url = make_url(written)
    except ArgumentError as error:
        raise DatabaseError(f"this is not the address of a database: {error}") from None
    match url.get_backend_name():
        case "sqlite":
            return url.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            query = dict(url.query)
            if "sslmode" in query:  # libpq's word, which everybody writes
                query["ssl"] = query.pop("sslmode")
            return url.set(drivername="postgresql+asyncpg", query=query)
    raise DatabaseError(
        f"`{url.get_backend_name()}` is not supported: sqlite:///PATH or postgresql://..."
    )


def _engine(url: URL) -> AsyncEngine:
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # errors are logged, and values may be prompts
    }
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        _make_private(Path(url.database))
        engine = create_async_engine(url, connect_args={"timeout": LOCK_SECONDS}, **options)
        event.listen(engine.sync_engine, "connect", _sqlite_connected)
        event.listen(engine.sync_engine, "begin", _sqlite_begun)
        return engine
    try:
        import asyncpg  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise DatabaseError(
            "PostgreSQL needs the [postgres] extra: pip install 'pointsman[postgres]'"
        ) from None
    arguments = {"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS}
    return create_async_engine(
        url, connect_args=arguments, pool_size=3, pool_pre_ping=True, **options
    )


def _make_private(file: Path) -> None:
    """A file that only we may read; SQLite gives those it makes beside it the same rights.

    One that is there is not opened: to close a file is to drop this process's locks on it, also
    those of connections that are open, and their write-ahead log may then be taken away.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            with suppress(FileExistsError):  # made by another process, this moment
                os.close(os.open(file, flags, 0o600))
    except OSError as error:
        raise DatabaseError(f"{file} can't be opened: {error.strerror}") from None


def _sqlite_connected(connection: Any, _: Any) -> None:
    # The driver would begin transactions as it sees fit, and none for a change of schema.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # A commit is on the disk: what it booked is removed from the journal right after.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _sqlite_begun(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
