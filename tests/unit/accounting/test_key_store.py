"""Keys in the database, over SQLite and PostgreSQL, and how keyrings keep up with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import select

from app.accounting import key_watch
from app.accounting.database import Database
from app.accounting.key_account import account
from app.accounting.key_opening import may_hold_keys
from app.accounting.key_store import KeyStore, key_changes, keys
from app.accounting.key_text import Hasher
from app.accounting.key_watch import KeyWatch
from app.accounting.keyring import Keyring
from app.config import schema
from app.errors import (
    DatabaseError,
    FixedKey,
    KeyRefused,
    KeySecretError,
    KeysUnavailable,
    UnknownKey,
    UnknownKeyId,
)

HASHER = Hasher(b"secret of the tests")
NOW = 1_800_000_000.0
Open = Callable[..., Awaitable[KeyStore]]


@pytest.fixture
async def open_store(database_url: str) -> AsyncIterator[Open]:
    """Opens the one database as another replica would."""
    async with AsyncExitStack() as stack:

        async def open_(hasher: Hasher = HASHER) -> KeyStore:
            store = KeyStore(await Database.open(database_url), hasher, lambda: NOW)
            stack.push_async_callback(store.close)
            return store

        yield open_


def terms(**fields: object) -> schema.KeyTerms:
    return schema.KeyTerms.model_validate(fields)


async def ring_of(store: KeyStore, clock: Callable[[], float] = lambda: NOW) -> Keyring:
    ring = Keyring(HASHER, {}, clock=clock)
    ring.take({one.id: one.key(HASHER) for one in await store.since(0)})
    return ring


async def test_a_key_is_kept_without_its_text(open_store: Open, database_url: str) -> None:
    store = await open_store()
    wanted = terms(name="blue", routes=["auto"], tags=["x"], limits={"usd_per_day": "0.10"},
                   expires="2027-01-15T08:00:01Z")  # fmt: skip
    key, text = await store.create(wanted)
    assert (key.terms, key.created, key.revoked) == (wanted, NOW, None)
    assert [key] == await store.all() == await store.since(0)
    assert await store.get(key.id) == key
    caller = (await ring_of(store)).check(text.encode())
    assert (caller.key_id, caller.routes, caller.tags) == (key.id, frozenset({"auto"}), ("x",))
    assert caller.limits is not None
    assert caller.limits.per_day == 100_000_000
    secret = text.rpartition("-")[2]
    async with store._database.read() as connection:
        for table in (keys, key_changes):
            rows = (await connection.execute(select(table))).all()
            assert secret not in repr(rows)
    assert secret not in repr(account(key, NOW))


async def test_terms_of_a_newer_version_end_that_key_here_and_no_other(
    open_store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """While versions are mixed, revocations must go on arriving."""
    store = await open_store()
    newer, newer_text = await store.create(terms())
    other, other_text = await store.create(terms())
    async with store._database.write() as connection:
        strange = keys.update().where(keys.c.id == newer.id).values(terms={"from_the_future": 1})
        await connection.execute(strange)
    ring = await ring_of(store)
    with pytest.raises(KeyRefused):
        ring.check(newer_text.encode())
    assert ring.check(other_text.encode()).key_id == other.id
    assert f"key {newer.id} has terms that this version does not know" in caplog.text


async def test_rotation_has_a_grace(open_store: Open) -> None:
    store = await open_store()
    key, first = await store.create(terms())
    _, second = await store.rotate(key.id, 60)
    for seconds, holds in ((59.9, True), (60.0, False)):
        ring = await ring_of(store, lambda seconds=seconds: NOW + seconds)  # type: ignore[misc]
        assert ring.holds(second.encode())
        assert ring.holds(first.encode()) is holds
    _, third = await store.rotate(key.id, 0)
    ring = await ring_of(store)
    assert [ring.holds(text.encode()) for text in (first, second, third)] == [False, False, True]


async def test_a_change_touches_what_it_names(open_store: Open) -> None:
    store = await open_store()
    key, _ = await store.create(terms(name="blue", routes=["auto"], tags=["x"]))
    changed = await store.change(key.id, terms(routes=None, metrics=True))
    assert changed.terms == terms(name="blue", routes=None, tags=["x"], metrics=True)
    assert changed.version > key.version


async def test_what_is_revoked_stays_revoked(open_store: Open) -> None:
    store = await open_store()
    key, text = await store.create(terms())
    revoked = await store.revoke(key.id)
    assert revoked.revoked == NOW
    assert await store.revoke(key.id) == revoked
    with pytest.raises(FixedKey, match="for good"):
        await store.rotate(key.id, 1)
    with pytest.raises(FixedKey, match="for good"):
        await store.change(key.id, terms(name="x"))
    with pytest.raises(KeyRefused, match="revoked"):
        (await ring_of(store)).check(text.encode())


@pytest.mark.parametrize("key_id", ["nothing", "", "x'; DROP TABLE keys; --", "\\0", "é" * 300])
async def test_an_unknown_id(open_store: Open, key_id: str) -> None:
    store = await open_store()
    await store.create(terms())
    for work in (store.get(key_id), store.revoke(key_id), store.rotate(key_id, 1)):
        with pytest.raises(UnknownKeyId):
            await work
    assert len(await store.all()) == 1


async def test_who_can_not_open_it_knows_whether_there_may_be_keys(
    open_store: Open, database_url: str
) -> None:
    shared = not database_url.startswith("sqlite")
    store = await open_store()
    assert may_hold_keys(database_url) is shared
    await store.create(terms())
    assert may_hold_keys(database_url)


async def test_one_secret_a_database(open_store: Open) -> None:
    ours, other = await open_store(), await open_store(Hasher(b"another"))
    await ours.claim(serves=True)
    for _ in range(2):
        await ours.claim(serves=False)
        with pytest.raises(KeySecretError, match="POINTSMAN_KEY_SECRET"):
            await other.claim(serves=False)
    key, _ = await ours.create(terms())
    with pytest.raises(KeySecretError):
        await other.claim(serves=True)
    await ours.revoke(key.id)
    await other.claim(serves=True)
    await other.claim(serves=False)
    with pytest.raises(KeySecretError):
        await ours.claim(serves=False)


async def test_nobody_who_follows_versions_misses_a_change(open_store: Open) -> None:
    """Several replicas write at once while one reads on from where it was."""
    writers = [await open_store() for _ in range(3)]
    reader = await open_store()
    seen: dict[str, int] = {}
    version, done = 0, asyncio.Event()

    async def follow() -> None:
        nonlocal version
        while True:
            last = done.is_set()
            for one in await reader.since(version):
                assert one.version > version
                version = one.version
                seen[one.id] = one.version
            if last:
                return

    async def write(store: KeyStore) -> None:
        for _ in range(10):
            key, _ = await store.create(terms())
            await store.revoke(key.id)

    following = asyncio.create_task(follow())
    await asyncio.gather(*map(write, writers))
    done.set()
    await following
    assert seen == {one.id: one.version for one in await reader.all()}
    assert len(seen) == 30
    assert version == 60


# --- the watch ----------------------------------------------------------------------------------


async def until(holds: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_watch_follows_within_a_second(open_store: Open) -> None:
    store, ring = await open_store(), Keyring(HASHER, {})
    key, text = await store.create(terms())
    watch = KeyWatch(ring, open_store)
    async with watch.running():
        await until(lambda: ring.holds(text.encode()), 10)
        await store.revoke(key.id)
        await until(lambda: not ring.holds(text.encode()), 1)
        assert ring.asks


async def test_a_key_made_elsewhere_is_known_by_the_next_look(open_store: Open) -> None:
    store, ring = await open_store(), Keyring(HASHER, {})
    watch = KeyWatch(ring, open_store)
    async with watch.running():
        await watch.refresh()
        for _ in range(3):
            _, text = await store.create(terms())
            await watch.refresh()
            assert ring.holds(text.encode())


class Counting:
    """A store that counts its looks, and may be out of reach."""

    hasher = HASHER

    def __init__(self) -> None:
        self.looks = 0
        self.gone = False

    async def since(self, version: int) -> list[object]:
        self.looks += 1
        if self.gone:
            raise ConnectionError("no route to host")
        return []

    async def close(self) -> None: ...


async def test_a_flood_of_wrong_keys_is_one_look(caplog: pytest.LogCaptureFixture) -> None:
    store = Counting()

    async def open_() -> Counting:
        return store

    watch = KeyWatch(Keyring(HASHER, {}), open_)  # type: ignore[arg-type]
    async with watch.running():
        await watch.refresh()
        before = store.looks
        await asyncio.gather(*(watch.refresh() for _ in range(1000)))
        assert store.looks - before <= 2
        store.gone = True
        for _ in range(3):
            with pytest.raises(KeysUnavailable):
                await watch.refresh()
        assert "no route" not in caplog.text
        assert caplog.text.count("can't be read (ConnectionError)") == 1
        store.gone = False
        await watch.refresh()


async def test_a_database_that_is_slow_is_none_that_has_no_such_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Counting):
        async def since(self, version: int) -> list[object]:
            await answers.wait()
            return await super().since(version)

    store, answers = Slow(), asyncio.Event()

    async def open_() -> Counting:
        return store

    answers.set()
    watch = KeyWatch(Keyring(HASHER, {}), open_)  # type: ignore[arg-type]
    async with watch.running():
        await watch.refresh()
        answers.clear()
        monkeypatch.setattr(key_watch, "_WAIT_SECONDS", 0.01)
        with pytest.raises(KeysUnavailable):
            await watch.refresh()
        answers.set()
        monkeypatch.undo()
        await watch.refresh()


async def test_a_mistake_of_ours_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    store, opened = Counting(), 0

    async def open_() -> Counting:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise DatabaseError("made by a newer Pointsman")
        if opened == 2:
            raise ZeroDivisionError
        return store

    watch = KeyWatch(Keyring(HASHER, {}), open_)  # type: ignore[arg-type]
    async with watch.running():
        await until(lambda: store.looks > 1, 10)
    assert "made by a newer Pointsman" in caplog.text


async def test_keys_of_another_secret_hold_nothing_and_still_count(
    open_store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = await (await open_store()).create(terms())
    ring = Keyring(Hasher(b"another"), {})
    watch = KeyWatch(ring, lambda: open_store(ring.hasher))
    async with watch.running():
        await watch.refresh()
        assert ring.asks
        with pytest.raises(UnknownKey):
            ring.check(text.encode())
    assert "another POINTSMAN_KEY_SECRET" in caplog.text
