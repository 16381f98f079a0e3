"""Keeps a process's keyring up with the database that all replicas share.

Asking twice a second for what has changed is one indexed look-up that finds nothing; it works the
same over SQLite and PostgreSQL, and a revocation holds everywhere within half a second. A key that
is unknown here may have been made elsewhere since: the next look is then taken at once, one for all
who wait for it, so that a flood of wrong keys costs the database twenty look-ups a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from app.accounting.key_text import Hasher, OtherSecret
from app.accounting.keyring import Key, Keyring, caller_of
from app.errors import KeysUnavailable, PointsmanError
from app.telemetry.logs import log

if TYPE_CHECKING:
    from app.accounting.key_store import KeptKey, KeyStore

POLL_SECONDS = 0.4
_LEAST_SECONDS = 0.05
"""Between two looks, however many ask for one."""
_WAIT_SECONDS = 1.0
"""How long a request with an unknown key waits for a look."""
_START_SECONDS = 10.0
"""The same for the first look, for which the database is opened and perhaps made."""


class KeyWatch:
    """Watches from the entering of `running` to its end."""

    def __init__(
        self,
        keyring: Keyring,
        open_store: Callable[[], Awaitable[KeyStore]],
    ) -> None:
        """`open_store` may fail, as any look may; it is tried again."""
        self._keyring = keyring
        self._open_store = open_store
        self._store: KeyStore | None = None
        self._version = 0
        self._begun = 0
        self._done = 0
        self._fails = False
        self._wanted = asyncio.Event()
        self._looked = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opening the database takes a while; only those wait whose answer hangs on it."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            if self._store is not None:
                await self._store.close()

    async def store(self) -> KeyStore:
        """The open store, waited for at the start. Raises KeysUnavailable."""
        if self._store is None:
            await self._next_look(_START_SECONDS)
        if self._store is None:
            raise KeysUnavailable("The database of keys can't be reached now.")
        return self._store

    @contextmanager
    def translated(self) -> Iterator[None]:
        """KeysUnavailable instead of what the database raises."""
        from app.accounting.database import UNAVAILABLE

        try:
            yield
        except UNAVAILABLE as error:
            log.warning("a change of keys failed: %s", type(error).__name__)
            raise KeysUnavailable("The database of keys can't be reached now.") from None

    async def refresh(self) -> None:
        """Read what has changed up to now. Raises KeysUnavailable."""
        starts = self._store is None and not self._fails
        if not await self._next_look(_START_SECONDS if starts else _WAIT_SECONDS):
            raise KeysUnavailable("Keys can't be checked now: their database can't be reached.")

    async def _next_look(self, seconds: float) -> bool:
        """Whether a look that began after this call has read the database, in time."""
        target = self._begun + 1
        self._wanted.set()
        try:
            async with asyncio.timeout(seconds), self._looked:
                await self._looked.wait_for(lambda: self._done >= target)
        except TimeoutError:
            return False
        return not self._fails

    async def _watch(self) -> None:
        while True:
            self._begun += 1
            self._wanted.clear()
            await self._look()
            async with self._looked:
                self._done = self._begun
                self._looked.notify_all()
            await asyncio.sleep(_LEAST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS - _LEAST_SECONDS):
                    await self._wanted.wait()

    async def _look(self) -> None:
        try:
            if self._store is None:
                self._store = await self._open_store()
            changed = await self._store.since(self._version)
            if changed:
                with suppress(OSError):
                    self._store.note_in_use()
        except Exception as error:  # noqa: BLE001 - were the watch to end, no revocation would come
            # Our own errors say what to do; those of a database may quote statements and values.
            self._failed(str(error) if isinstance(error, PointsmanError) else type(error).__name__)
            return
        if self._fails:
            log.warning("the database of keys is back")
        self._fails = False
        self._take(self._store.hasher, changed)

    def _failed(self, why: str) -> None:
        if not self._fails:
            log.warning("the database of keys can't be read (%s): keys known here go on", why)
        self._fails = True

    def _take(self, hasher: Hasher, changed: Sequence[KeptKey]) -> None:
        taken: dict[str, Key] = {}
        for one in changed:
            self._version = one.version
            try:
                taken[one.id] = one.key(hasher)
            except OtherSecret:
                log.warning(
                    "key %s was made with another POINTSMAN_KEY_SECRET: not valid here", one.id
                )
                # No text has this digest; that there is a key still counts.
                taken[one.id] = Key(caller_of(one.id, one.terms), b"")
        was_open = not self._keyring.asks
        self._keyring.take(taken)
        if was_open and self._keyring.asks:
            log.info("there is a key now: from here on every request needs one")
