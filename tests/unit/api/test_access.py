"""How a key comes in, and who is let through without one."""

from __future__ import annotations

from typing import Any

import pytest

from app.accounting.key_text import Hasher, new_text
from app.accounting.keyring import Key, Keyring, caller_of
from app.api.access import Access, nothing_new
from app.config import schema
from app.errors import ForeignOrigin, GatewayError, KeyRefused, UnknownKey

HASHER = Hasher(b"secret of the tests")
TEXT = new_text("abcd")
KEY = Key(caller_of("abcd", schema.KeyTerms()), HASHER.digest(TEXT.encode()))


def ring(*, keyed: bool = True, **options: Any) -> Keyring:
    return Keyring(HASHER, {"abcd": KEY} if keyed else {}, **options)


async def who(headers: list[tuple[bytes, bytes]], keyring: Keyring) -> str | None:
    scope = {"type": "http", "path": "/v1/chat/completions", "headers": headers}
    return (await Access(keyring, nothing_new).caller(scope)).key_id


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer KEY")],
        [(b"authorization", b"bearer   KEY ")],
        [(b"x-api-key", b"KEY")],
        [(b"x-api-key", b" KEY ")],
        [(b"authorization", b"Basic dXNlcjpwYXNz"), (b"x-api-key", b"KEY")],
        [(b"x-api-key", b"unused"), (b"authorization", b"Bearer KEY")],
        [(b"x-api-key", b""), (b"x-api-key", b"KEY")],
    ],
)
async def test_a_key_is_found(headers: list[tuple[bytes, bytes]]) -> None:
    sent = [(name, value.replace(b"KEY", TEXT.encode())) for name, value in headers]
    assert await who(sent, ring()) == "abcd"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([], "No key was sent"),
        ([(b"authorization", b"Basic dXNlcjpwYXNz")], "holds no Bearer key"),
        ([(b"authorization", b"Bearer")], "holds no Bearer key"),
        ([(b"authorization", b"Bearer ")], "holds no Bearer key"),
        ([(b"authorization", b"")], "holds no Bearer key"),
        ([(b"authorization", TEXT.encode())], "holds no Bearer key"),
        ([(b"x-api-key", b"")], "No key was sent"),
        ([(b"authorization", b"Bearer sk-unused")], "not valid"),
        ([(b"authorization", b"Bearer " + TEXT.encode() + b"a")], "not valid"),
        ([(b"authorization", b"Bearer \xff\xfe' OR 1=1; --")], "not valid"),
        ([(b"cookie", b"key=" + TEXT.encode())], "No key was sent"),
    ],
)
async def test_a_key_is_missed(headers: list[tuple[bytes, bytes]], says: str) -> None:
    with pytest.raises(KeyRefused, match=says) as caught:
        await who(headers, ring())
    assert ("www-authenticate", "Bearer") in caught.value.headers
    assert TEXT not in caught.value.message


async def test_an_open_gateway_does_not_look_at_keys() -> None:
    for headers in ([], [(b"authorization", b"Bearer sk-unused")], [(b"x-api-key", b"pm-a-b")]):
        assert await who(headers, ring(keyed=False)) is None


async def test_with_keys_and_anonymous_callers_a_wrong_key_is_still_wrong() -> None:
    both = ring(allow_anonymous=True)
    assert await who([], both) is None
    assert await who([(b"authorization", b"Bearer sk-unused")], both) is None
    assert await who([(b"authorization", b"Bearer " + TEXT.encode())], both) == "abcd"
    with pytest.raises(UnknownKey):
        await who([(b"authorization", b"Bearer " + TEXT.encode() + b"a")], both)


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        (b"http://localhost:3000", True),
        (b"http://127.0.0.1:8080", True),
        (b"http://[::1]:8080", True),
        (b"https://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"http://127.0.0.1.evil.example", False),
        (b"http://localhost@evil.example", False),
        (b"null", False),
        (b"http://[broken", False),
        (b"", False),
    ],
)
async def test_web_pages_of_others_can_not_use_an_open_gateway(origin: bytes, let_in: bool) -> None:
    headers = [(b"origin", origin)]
    if let_in:
        assert await who(headers, ring(keyed=False)) is None
    else:
        with pytest.raises(ForeignOrigin):
            await who(headers, ring(keyed=False))
    # Who says that everybody is served, means it; and a page can't send a key it does not have.
    assert await who(headers, ring(keyed=False, allow_anonymous=True)) is None
    assert await who([*headers, (b"x-api-key", TEXT.encode())], ring()) == "abcd"


async def test_an_unknown_key_is_looked_for_once_and_a_known_one_never() -> None:
    keyring, asked = ring(keyed=False, allow_anonymous=False), 0

    async def refresh() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            keyring.take({"abcd": KEY})

    access = Access(keyring, refresh)
    scope = {"type": "http", "path": "/", "headers": [(b"x-api-key", TEXT.encode())]}
    with pytest.raises(UnknownKey):
        await access.caller(scope)
    for _ in range(3):
        assert (await access.caller(scope)).key_id == "abcd"
    assert asked == 2


async def test_refusals_look_alike() -> None:
    """What is unknown by its id and what is wrong in its secret can't be told apart."""
    said = []
    for text in (TEXT + "a", new_text("wxyz"), "sk-anything"):
        with pytest.raises(GatewayError) as caught:
            await who([(b"x-api-key", text.encode())], ring())
        said.append((caught.value.status, caught.value.code, caught.value.message))
    assert len(set(said)) == 1
