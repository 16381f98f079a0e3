"""Which keys hold, and what is said of those that do not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.accounting.key_text import Hasher, new_text
from app.accounting.keyring import Key, Keyring, caller_of, declared
from app.config import schema
from app.errors import KeyRefused, UnknownKey

HASHER = Hasher(b"secret of the tests")
NOW = 1_800_000_000.0
TEXT, OLD = new_text("abcd"), new_text("abcd")
ADMIN = "an admin key that is long"


def key(**fields: Any) -> Key:
    caller = caller_of("abcd", schema.KeyTerms(name="team", tags=["blue"]))
    return Key(caller, HASHER.digest(TEXT.encode()), **fields)


def ring(one: Key | None = None, **options: Any) -> Keyring:
    keys = {} if one is None else {"abcd": one}
    return Keyring(HASHER, keys, clock=lambda: NOW, **options)


def test_a_key_says_who_calls() -> None:
    caller = ring(key()).check(TEXT.encode())
    assert (caller.key_id, caller.name, caller.tags, caller.admin) == (
        "abcd", "team", ("blue",), False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("pm-abcd", id="no secret"),
        pytest.param("pm-abcd-", id="empty secret"),
        pytest.param(OLD, id="another secret"),
        pytest.param(TEXT[:-1], id="too short"),
        pytest.param(TEXT + "a", id="too long"),
        pytest.param(TEXT.upper(), id="upper case"),
        pytest.param(f"pm-wxyz-{TEXT[8:]}", id="another id"),
        pytest.param("é", id="not ASCII"),
    ],
)
def test_anything_else_is_unknown(text: str) -> None:
    with pytest.raises(UnknownKey) as caught:
        ring(key(), admin_key=ADMIN).check(text.encode("latin-1"))
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert not text or text not in caught.value.message


def test_the_admin_key_opens_everything() -> None:
    caller = ring(admin_key=ADMIN).check(ADMIN.encode())
    assert (caller.key_id, caller.admin, caller.scoped) == ("admin", True, False)
    for text in (ADMIN[:-1], ADMIN + " ", ""):
        with pytest.raises(UnknownKey):
            ring(admin_key=ADMIN).check(text.encode())
    with pytest.raises(UnknownKey):
        ring().check(ADMIN.encode())


def test_an_endless_key_is_not_even_hashed() -> None:
    with pytest.raises(KeyRefused, match="longer"):
        ring(key()).check(b"pm-abcd-" + b"a" * 1_000_000)


def test_expiry_is_exact() -> None:
    assert ring(key(expires=NOW + 0.001)).check(TEXT.encode()).key_id == "abcd"
    with pytest.raises(KeyRefused, match="abcd expired on 2027-01-15"):
        ring(key(expires=NOW)).check(TEXT.encode())


def test_only_who_has_the_text_is_told_why_it_ended() -> None:
    for ended in (key(expires=NOW), key(revoked=NOW)):
        with pytest.raises(KeyRefused, match=r"expired|revoked"):
            ring(ended).check(TEXT.encode())
        with pytest.raises(UnknownKey):
            ring(ended).check(OLD.encode())


def test_the_former_text_holds_for_its_grace() -> None:
    former = HASHER.digest(OLD.encode())
    for left, holds in ((0.001, True), (0.0, False)):
        rotated = ring(key(former=former, former_until=NOW + left, expires=NOW + 9))
        assert rotated.check(TEXT.encode()).key_id == "abcd"
        if holds:
            assert rotated.check(OLD.encode()).key_id == "abcd"
        else:
            with pytest.raises(KeyRefused, match="replaced"):
                rotated.check(OLD.encode())
    # Also where the key itself never ends, which is the fast way through the check.
    assert ring(key(former=former, former_until=NOW + 1)).check(OLD.encode()).key_id == "abcd"


def test_revoking_ends_both_texts() -> None:
    one = ring(key(former=HASHER.digest(OLD.encode()), former_until=NOW + 9, revoked=NOW))
    for text in (TEXT, OLD):
        with pytest.raises(KeyRefused, match="revoked"):
            one.check(text.encode())


@pytest.mark.parametrize(
    ("allow", "any_key", "asks", "guarded"),
    [
        (None, False, False, False),
        (None, True, True, True),
        (True, False, False, False),
        (True, True, False, True),
        (False, False, True, True),
        (False, True, True, True),
    ],
)
def test_when_a_key_is_asked_for(
    allow: bool | None, any_key: bool, asks: bool, guarded: bool
) -> None:
    for one in (ring(key() if any_key else None, allow_anonymous=allow),
                ring(admin_key=ADMIN if any_key else None, allow_anonymous=allow)):  # fmt: skip
        assert (one.asks, one.guarded) == (asks, guarded)


def test_a_revoked_key_still_shows_that_keys_are_in_use() -> None:
    assert ring(key(revoked=NOW)).asks
    one = ring()
    one.take({"abcd": key(revoked=NOW)})
    assert one.asks


def test_until_the_database_was_read_a_key_is_asked_for() -> None:
    one = ring()
    one.awaits = True
    assert one.asks
    one.take({})
    assert not one.asks


def test_the_yaml_goes_before_the_database() -> None:
    one = ring(key())
    one.take({"abcd": Key(caller_of("abcd", schema.KeyTerms(admin=True)), b"x" * 32)})
    assert not one.check(TEXT.encode()).admin


@pytest.mark.parametrize(
    ("routes", "models", "compiled"),
    [
        (None, None, (None, None)),
        (["auto"], None, (frozenset({"auto"}), frozenset())),
        (None, ["small"], (frozenset(), frozenset({"small"}))),
        ([], [], (frozenset(), frozenset())),
    ],
)
def test_a_scope_on_one_kind_closes_the_other(routes: Any, models: Any, compiled: Any) -> None:
    caller = caller_of("abcd", schema.KeyTerms(routes=routes, models=models))
    assert (caller.routes, caller.models) == compiled


def test_an_entry_of_the_yaml() -> None:
    written = schema.Key(
        id="abcd",
        hash=HASHER.written(TEXT),
        expires="2027-01-15T08:00:00",  # type: ignore[arg-type]
        limits=schema.Limits(usd_per_day=Decimal("1.5")),
    )
    one = declared(written, HASHER)
    assert one.expires == NOW
    assert one.digest == HASHER.digest(TEXT.encode())
    assert one.caller.limits is not None
    assert one.caller.limits.per_day == 1_500_000_000


def test_another_reading_of_the_yaml_takes_the_place_of_the_first() -> None:
    stored = Key(caller_of("efgh", schema.KeyTerms()), b"", revoked=NOW - 1)
    one = ring(key(), admin_key=ADMIN)
    one.take({"efgh": stored})
    one.adopt(Keyring(HASHER, {}, None, allow_anonymous=True, clock=lambda: NOW))
    with pytest.raises(UnknownKey):
        one.check(TEXT.encode())
    with pytest.raises(UnknownKey):
        one.check(ADMIN.encode())
    assert (one.stored, one.asks, one.configured) == ({"efgh": stored}, False, True)
