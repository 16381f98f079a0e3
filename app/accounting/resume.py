"""Budgets go on after a restart from what the ledger says was spent in the periods that run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module

from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter, Spent
from app.accounting.limits import Limits
from app.accounting.periods import Period, PeriodName
from app.telemetry.logs import log

WAIT_SECONDS = 5.0
"""So long requests wait for what was spent; a database that takes longer is gone."""
PAUSE_SECONDS = 1.0


@asynccontextmanager
async def resumed(
    limiter: Limiter, ledger: Ledger | None, of_keys: Iterable[Limits | None]
) -> AsyncIterator[None]:
    """Tell the limiter what had been spent, before requests come if that is quick.

    While the ledger can't be read budgets begin at 0, and are told as soon as it can. What is told
    that late may hold requests of this process too: too much rather than too little.
    """
    if ledger is None or not (limiter.has_budgets or any(map(_is_budget, of_keys))):
        yield
        return
    task = asyncio.get_running_loop().create_task(_resume(limiter, ledger))
    await asyncio.wait({task}, timeout=WAIT_SECONDS)
    if not task.done():
        log.warning("the ledger can't be read yet, so budgets begin at 0 until it can")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _is_budget(limits: Limits | None) -> bool:
    return limits is not None and limits.is_budget


async def _resume(limiter: Limiter, ledger: Ledger) -> None:
    # What died before it was booked is booked first: it was spent all the same.
    await ledger.caught_up.wait()
    spend = await asyncio.to_thread(import_module, "app.accounting.spend")

    async def spent(periods: Mapping[PeriodName, Period]) -> list[Spent]:
        rows = await spend.since(ledger.place.url, {n: p.start for n, p in periods.items()})
        return [Spent(scope, name, period, nano) for scope, name, period, nano in rows]

    while True:
        try:
            await limiter.load(spent)
        except spend.UNAVAILABLE as error:
            log.debug("what was spent can't be read yet: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
