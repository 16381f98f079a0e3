"""The ledger as the page reads it: opened when it is first asked for, by a reader of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from app.errors import DatabaseError, LedgerUnavailable, NoDatabase
from app.telemetry.logs import log

if TYPE_CHECKING:
    from app.accounting.database import Database

_QUERIES = ("overview", "decisions", "tradeoff", "export")
_OPEN_SECONDS = 10.0


class Source:
    """Reads one ledger, or says that there is none. Belongs to one event loop."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if self._warming is not None:
                await self._warming
            if self._database is not None:
                await self._database.close()

    def warm(self) -> None:
        """Open it in the background: its data will be asked for in a moment."""
        if self._url is not None and self._database is None and self._warming is None:
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def _warm(self) -> None:
        try:
            with suppress(LedgerUnavailable):  # told to who asks
                async with self.ledger():
                    pass
        finally:
            self._warming = None

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Database]:
        """The open database. Raises NoDatabase, or LedgerUnavailable also for what fails inside."""
        if self._url is None:
            raise NoDatabase("This gateway keeps no ledger (`ledger: null`), so there is no data.")
        try:
            async with self._opening:
                if self._database is None:
                    self._database = await self._open(self._url)
        except TimeoutError:
            raise LedgerUnavailable("The ledger's database is not ready yet.") from None
        from app.accounting.database import UNAVAILABLE

        try:
            yield self._database
        except UNAVAILABLE as error:
            log.warning("the dashboard can't read the ledger: %s", type(error).__name__)
            raise LedgerUnavailable("The ledger's database can't be read now.") from None

    async def _open(self, url: str) -> Database:
        # SQLAlchemy takes half a second to load; requests need not wait for it.
        for name in _QUERIES:
            await asyncio.to_thread(import_module, f"app.dashboard.{name}")
        from app.accounting.database import UNAVAILABLE, Database

        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return await Database.open(url)
        except DatabaseError as error:
            raise LedgerUnavailable(str(error)) from None
        except UNAVAILABLE as error:
            log.warning("the dashboard can't open the ledger: %s", type(error).__name__)
            raise LedgerUnavailable("The ledger's database can't be reached now.") from None
