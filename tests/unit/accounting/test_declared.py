"""What `check` finds wrong with keys, and where it says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.accounting.declared import keyring
from app.accounting.key_secret import VARIABLE, find_or_make_secret
from app.accounting.key_text import Hasher, new_text
from app.accounting.keyring import Keyring
from app.config.load import load
from app.errors import ConfigError

SECRET = {VARIABLE: "a key secret of thirty-two characters or more"}
ADMIN = {"POINTSMAN_ADMIN_KEY": "an-admin-key-long-enough"}
TEXT = new_text("abcd")
HASH = Hasher(SECRET[VARIABLE].encode()).written(TEXT)
BASE = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models: {small: {upstream: u}}
routes: {auto: {aliases: [smart], candidates: [small], router: null}}
"""

Read = Callable[..., tuple[Keyring, list[str]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_(text: str, **environment: str) -> tuple[Keyring, list[str]]:
        file = tmp_path / "c.yaml"
        file.write_text(BASE + text)
        ring, problems = keyring(load(file, environment), environment)
        return ring, [str(problem).removeprefix(f"{file}:") for problem in problems]

    return read_


def test_a_key_of_the_yaml_is_known(read: Read) -> None:
    entry = f"keys: [{{id: abcd, hash: '{HASH}', routes: [smart], expires: 2999-01-01}}]\n"
    ring, problems = read(entry, **SECRET)
    assert problems == []
    assert ring.check(TEXT.encode()).routes == {"smart"}
    assert ring.asks


def test_a_hash_of_another_secret_is_found(read: Read, tmp_path: Path) -> None:
    entry = f"keys:\n- {{id: abcd, hash: '{HASH}'}}\n"
    (problem,) = read(entry)[1]
    assert problem.startswith("4: keys: there is no key secret")
    assert VARIABLE in problem
    find_or_make_secret({}, tmp_path)
    ring, problems = read(entry)
    assert problems[0].startswith("5: keys[0].hash: was made with another key secret")
    # Not open, even where somebody goes on regardless of the problem.
    assert not ring.holds(TEXT.encode())


def test_a_secret_or_admin_key_that_can_be_guessed(read: Read) -> None:
    assert "shorter than 32" in read("", **{VARIABLE: "short"})[1][0]
    for weak in ("hunter2", "with a space in the middle", "ünïcödé-is-nothing-for-headers"):
        (problem,) = read("", POINTSMAN_ADMIN_KEY=weak)[1]
        assert "POINTSMAN_ADMIN_KEY: " in problem
        assert weak not in problem
    assert read("", POINTSMAN_ADMIN_KEY=" \n")[0].configured is False


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "''", "127.0.0.1.evil"]
)
def test_other_addresses_need_keys_or_a_word(read: Read, host: str) -> None:
    server = f"server: {{host: {host!r}}}\n" if host != "''" else "server: {host: ''}\n"
    (problem,) = read(server)[1]
    assert problem.startswith("4: server.host: without any key")
    assert read(server, **ADMIN)[1] == []
    assert read(server + f"keys: [{{id: abcd, hash: '{HASH}'}}]\n", **SECRET)[1] == []
    for allow in ("true", "false"):
        said = server.replace("{host", f"{{allow_anonymous: {allow}, host")
        assert read(said)[1] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_none(read: Read, host: str) -> None:
    ring, problems = read(f"server: {{host: '{host}'}}\n")
    assert (problems, ring.asks) == ([], False)


def test_where_serve_listens_goes_before_the_file(read: Read) -> None:
    assert read("", POINTSMAN_HOST="0.0.0.0")[1][0].startswith("1: server.host: without any key")
    assert read("server: {host: 0.0.0.0}\n", POINTSMAN_HOST="127.0.0.1")[1] == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{id: abcd}", "keys[0].hash: is required"),
        ("{id: abcd, hash: TEXT}", "keys[0].hash: must be a hash as `pointsman keys hash`"),
        ("{id: 'x; --', hash: HASH}", "keys[0].id: must be 4 to 32 lower-case letters"),
        ("{id: admin, hash: HASH}", "keys[0].id: is reserved"),
        ("{id: abcd, hash: HASH, routes: [aut]}", "no route named `aut` (did you mean `auto`?)"),
        ("{id: abcd, hash: HASH, models: [auto]}", "no model named `auto`"),
        ("{id: abcd, hash: HASH}, {id: abcd, hash: HASH}", "keys[1].id: `abcd` is listed twice"),
        ("{id: abcd, hash: HASH, expires: soon}", "keys[0].expires: must be a date or a moment"),
        ("{id: abcd, hash: HASH, expires: 2027}", "keys[0].expires: must be a date or a moment"),
        ("{id: abcd, hash: HASH, limits: {usd_per_day: -1}}", "keys[0].limits.usd_per_day: "),
        ("{id: abcd, hash: HASH, key: x}", "keys[0].key: unknown key"),
    ],
)
def test_wrong_entries(read: Read, entry: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"keys: [{entry.replace('HASH', HASH).replace('TEXT', TEXT)}]\n", **SECRET)
    assert said in str(caught.value)
    assert TEXT not in str(caught.value)
