"""Budgets go on from the ledger, and a ledger that is gone holds up nobody."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.accounting import resume, spend
from app.accounting.caller import ANONYMOUS, Caller
from app.accounting.key_text import Hasher
from app.accounting.keyring import Key, Keyring
from app.accounting.ledger import Ledger, kept
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.place import Place
from app.accounting.resume import resumed
from app.errors import KeysUnavailable, LimitReached
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


def ring(*limits: Limits | None) -> Keyring:
    keys = {str(n): Key(Caller(str(n), limits=one), b"") for n, one in enumerate(limits)}
    return Keyring(Hasher(b"secret"), keys)


async def no_database() -> None:
    raise AssertionError("there is none to be read")


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
    async with kept(books), resumed(fresh, books, ring(), no_database):
        assert is_spent(fresh)


async def test_where_no_money_is_limited_nobody_waits(tmp_path: Path) -> None:
    began = monotonic()
    never = ledger(tmp_path)
    rates, keys = limiter(Limits(requests_per_minute=1)), ring(None, Limits())
    async with resumed(rates, never, keys, no_database):
        assert monotonic() - began < resume.WAIT_SECONDS / 2


async def test_a_budget_of_a_key_alone_is_enough_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resume, "WAIT_SECONDS", 0.05)
    one, never = limiter(Limits()), ledger(tmp_path)
    with caplog.at_level(logging.WARNING):
        async with resumed(one, never, ring(Limits(per_day=1)), no_database):
            pass
    assert "budgets begin at 0 until it can" in caplog.text


@pytest.mark.parametrize("limits", [Limits(per_day=1), Limits(requests_per_minute=1)])
async def test_keys_of_the_database_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """Only then is it known whether there is a budget to go on with."""
    monkeypatch.setattr(resume, "WAIT_SECONDS", 5.0)
    monkeypatch.setattr(resume, "PAUSE_SECONDS", 0.0)
    keys, books = ring(), ledger(tmp_path)
    keys.awaits = True
    looks = 0

    async def read_keys() -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise KeysUnavailable("not yet")
        keys.take({"k": Key(Caller("k", limits=limits), b"")})

    one = limiter(Limits())
    loaded: list[object] = []

    async def load(source: object) -> None:
        loaded.append(source)

    monkeypatch.setattr(Limiter, "load", lambda self, source: load(source))
    async with kept(books), resumed(one, books, keys, read_keys):
        assert looks == 3
        assert len(loaded) == limits.is_budget


async def test_a_database_that_is_away_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, really = [], spend.since

    async def away_at_first(url: str, starts: Mapping[str, float]) -> list[Any]:
        asked.append(url)
        if len(asked) == 1:
            raise OSError("away")
        return await really(url, starts)

    monkeypatch.setattr(spend, "since", away_at_first)
    monkeypatch.setattr(resume, "PAUSE_SECONDS", 0.01)
    one, books = limiter(), ledger(tmp_path)
    books.place.prepare()
    books.append(record(at=time(), cost=1_000))
    async with kept(books), resumed(one, books, ring(), no_database):
        assert is_spent(one)
    assert len(asked) == 2


async def test_a_mistake_of_ours_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: object) -> None:
        raise KeyError("no such column")

    monkeypatch.setattr(spend, "since", fails)
    books = ledger(tmp_path)
    async with kept(books), resumed(limiter(), books, ring(), no_database):
        pass
    assert "budgets begin at 0: what was spent can't be read" in caplog.text
