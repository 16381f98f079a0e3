"""Budgets go on after a restart from what the ledger says was spent in the periods that run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module

from app.accounting.keyring import Keyring
from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter, Spent, SpentSource
from app.accounting.periods import Period, PeriodName
from app.errors import KeysUnavailable
from app.telemetry.logs import log

WAIT_SECONDS = 5.0
"""So long requests wait for what was spent; a database that takes longer is gone."""
PAUSE_SECONDS = 1.0


@asynccontextmanager
async def resumed(
    limiter: Limiter,
    ledger: Ledger | None,
    keyring: Keyring,
    read_keys: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Tell the limiter what had been spent, before requests come if that is quick.

    While the ledger can't be read budgets begin at 0, and are told as soon as it can. What is told
    that late may hold requests of this process too: too much rather than too little. `read_keys`
    reads the keys of the database, which have budgets as well; it raises KeysUnavailable.
    """
    if ledger is None or not (keyring.awaits or _is_any_budget(limiter, keyring)):
        yield
        return
    task = asyncio.get_running_loop().create_task(_resume(limiter, ledger, keyring, read_keys))
    await asyncio.wait({task}, timeout=WAIT_SECONDS)
    if not task.done():
        log.warning("the ledger can't be read yet, so budgets begin at 0 until it can")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _is_any_budget(limiter: Limiter, keyring: Keyring) -> bool:
    return limiter.has_budgets or any(
        limits is not None and limits.is_budget for limits in keyring.limits()
    )


async def _resume(
    limiter: Limiter, ledger: Ledger, keyring: Keyring, read_keys: Callable[[], Awaitable[None]]
) -> None:
    while keyring.awaits:
        try:
            await read_keys()
        except KeysUnavailable:
            await asyncio.sleep(PAUSE_SECONDS)
    if not _is_any_budget(limiter, keyring):
        return
    # What died before it was booked is booked first: it was spent all the same.
    await ledger.caught_up.wait()
    spent = await _source(ledger)
    from app.accounting.database import UNAVAILABLE

    while True:
        try:
            await limiter.load(spent)
        except UNAVAILABLE as error:
            log.debug("what was spent can't be read yet: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the gateway serves, but nobody must believe a budget
            log.exception("budgets begin at 0: what was spent can't be read", exc_info=error)
            return
        else:
            return


async def take_up(limiter: Limiter, former: Limiter, ledger: Ledger | None) -> None:
    """Tell a limiter what had been spent under the budgets that the one before it did not have.
    If the ledger can't be read soon, they begin at 0."""
    if ledger is None or not limiter.has_new_budgets(former):
        return
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await limiter.load(await _source(ledger), former)
    except Exception as error:  # noqa: BLE001 - whatever it is, the new limits are better than none
        log.warning("new budgets begin at 0: the ledger can't be read (%s)", type(error).__name__)


async def _source(ledger: Ledger) -> SpentSource:
    # SQLAlchemy takes half a second to load; requests need not wait for it.
    await asyncio.to_thread(import_module, "app.accounting.spend")
    from app.accounting import spend

    async def spent(periods: Mapping[PeriodName, Period]) -> list[Spent]:
        rows = await spend.since(ledger.place.url, {n: p.start for n, p in periods.items()})
        return [Spent(scope, name, period, nano) for scope, name, period, nano in rows]

    return spent
