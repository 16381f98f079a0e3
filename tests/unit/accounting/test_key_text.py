"""What a key looks like and what is kept of it."""

from pathlib import Path

import pytest

from app.accounting.key_secret import (
    FILE,
    VARIABLE,
    find_or_make_secret,
    find_secret,
)
from app.accounting.key_text import ID, Hasher, OtherSecret, id_in, new_id, new_text
from app.errors import KeySecretError

SECRET = b"a key secret for these tests only"


def test_a_key_names_its_id_and_has_160_random_bits() -> None:
    key_id = new_id()
    texts = {new_text(key_id) for _ in range(100)}
    assert len(texts) == 100
    for text in texts:
        assert text.startswith(f"pm-{key_id}-")
        assert len(text.removeprefix(f"pm-{key_id}-")) * 5 == 160
        assert id_in(text.encode()) == key_id
    assert ID.fullmatch(key_id)


@pytest.mark.parametrize("text", [b"", b"pm", b"pm-", b"pm-abc", b"sk-abc-def", b"-", b"\xff-a-b"])
def test_what_is_no_key_names_no_id(text: bytes) -> None:
    assert id_in(text) is None


def test_a_hash_tells_nothing_and_knows_its_secret() -> None:
    hasher, text = Hasher(SECRET), new_text("abcd")
    written = hasher.written(text)
    assert text.rpartition("-")[2] not in written
    assert hasher.read(written) == hasher.digest(text.encode())
    other = Hasher(SECRET + b"!")
    assert other.digest(text.encode()) != hasher.digest(text.encode())
    with pytest.raises(OtherSecret):
        other.read(written)
    for broken in ("", "blake2b", written[:-1], written.upper(), text):
        with pytest.raises(ValueError, match="not a hash"):
            hasher.read(broken)


def test_the_environment_has_the_last_word(tmp_path: Path) -> None:
    assert find_or_make_secret({VARIABLE: "e" * 40}, tmp_path) == b"e" * 40
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(KeySecretError, match="shorter than 32"):
        find_secret({VARIABLE: "short"}, tmp_path)


def test_a_secret_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    assert find_secret({}, tmp_path) is None
    secret = find_or_make_secret({}, tmp_path)
    assert find_or_make_secret({}, tmp_path) == find_secret({}, tmp_path) == secret
    file = tmp_path / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in file.parent.iterdir()] == [FILE.name]
    file.write_text("cut")
    with pytest.raises(KeySecretError, match="damaged"):
        find_or_make_secret({}, tmp_path)


def test_a_secret_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeySecretError, match=VARIABLE):
        find_or_make_secret({}, tmp_path / "file" / "below")
