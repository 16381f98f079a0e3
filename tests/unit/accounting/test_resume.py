"""Budgets go on from the ledger, and a ledger that is gone holds up nobody."""

from __future__ import annotations

import logging
from pathlib import Path
from time import monotonic, time

import pytest
from prometheus_client import CollectorRegistry

from app.accounting import resume
from app.accounting.caller import ANONYMOUS
from app.accounting.ledger import Ledger, kept
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.place import Place
from app.accounting.resume import resumed
from app.errors import LimitReached
from app.state.memory import MemoryState
from app.telemetry.metrics import Metrics
from tests.unit.accounting.records import record

BUDGET = Limits(per_month=1_000)


def limiter(limits: Limits = BUDGET) -> Limiter:
    metrics = Metrics(CollectorRegistry())
    return Limiter(MemoryState(), {("route", "auto"): limits}, (), metrics)


def ledger(folder: Path) -> Ledger:
    place = Place(f"sqlite:///{folder}/ledger.db", folder / "journal", "here")
    return Ledger(place, Metrics(CollectorRegistry()))


def is_spent(one: Limiter) -> bool:
    try:
        one.foresee(one.applied(ANONYMOUS, "auto"))
    except LimitReached:
        return True
    return False


async def test_what_the_dead_left_in_the_journal_was_spent(tmp_path: Path) -> None:
    dead = ledger(tmp_path)
    dead.place.prepare()
    dead.append(record(at=time(), cost=1_000))
    dead.journal.close()
    fresh, books = limiter(), ledger(tmp_path)
    assert not is_spent(fresh)
    async with kept(books), resumed(fresh, books, ()):
        assert is_spent(fresh)


async def test_where_no_money_is_limited_nobody_waits(tmp_path: Path) -> None:
    began = monotonic()
    never = ledger(tmp_path)
    async with resumed(limiter(Limits(requests_per_minute=1)), never, (None, Limits())):
        assert monotonic() - began < resume.WAIT_SECONDS / 2


async def test_a_budget_of_a_key_alone_is_enough_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resume, "WAIT_SECONDS", 0.05)
    one, never = limiter(Limits()), ledger(tmp_path)
    with caplog.at_level(logging.WARNING):
        async with resumed(one, never, (Limits(per_day=1),)):
            pass
    assert "budgets begin at 0 until it can" in caplog.text
