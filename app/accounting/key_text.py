"""What a key looks like, and the keyed hash that is kept in its place.

`pm-<id>-<secret>`: the id is not secret and finds the key; the secret has 160 random bits, so one
pass of a keyed hash is enough, and a slow hash made for passwords would only cost time.
"""

from __future__ import annotations

import re
import secrets
from hashlib import blake2b

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 10
_SECRET_LENGTH = 32
MAX_BYTES = 256
"""No key is longer; what is, is not even hashed."""

IN_USE = ".keys"
"""Beside a file of SQLite in which a key has been made, for who can't open it."""

ID = re.compile(r"[a-z0-9]{4,32}")
_HASH = re.compile(r"blake2b:([0-9a-f]{8}):([0-9a-f]{64})")


class OtherSecret(ValueError):
    """A hash that was made with another key secret than the one in use: no key can match it."""


def new_id() -> str:
    return _random(_ID_LENGTH)


def new_text(key_id: str) -> str:
    """The text of a new key: shown once, kept by nobody."""
    return f"pm-{key_id}-{_random(_SECRET_LENGTH)}"


def looks_like_key(text: bytes) -> bool:
    return text.startswith(b"pm-")


def id_in(text: bytes) -> str | None:
    """The id that a key names; None if it is not the text of a key."""
    prefix, _, rest = text.partition(b"-")
    key_id, dash, _ = rest.partition(b"-")
    return key_id.decode("latin-1") if prefix == b"pm" and dash else None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Hasher:
    """BLAKE2b keyed with the key secret: who can write to the database but does not know the
    secret can't make a key that is accepted.

    A written hash, `blake2b:<mark>:<hex>`, carries four bytes that tell which secret it was made
    with, so that a wrong one is found at the start and not by every client.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(secret, person=b"pointsman-key").digest()
        self.mark = blake2b(b"mark", key=self._key, digest_size=4, person=b"mark").hexdigest()

    def digest(self, text: bytes) -> bytes:
        """32 bytes for a key's text."""
        return blake2b(text, key=self._key, digest_size=32).digest()

    def written(self, text: str) -> str:
        """The hash as it is kept in the database or in the YAML."""
        return f"blake2b:{self.mark}:{self.digest(text.encode()).hex()}"

    @property
    def none(self) -> str:
        """A written hash that no text has."""
        return f"blake2b:{self.mark}:{'0' * 64}"

    def read(self, written: str) -> bytes:
        """The digest in a written hash. Raises OtherSecret, or ValueError for what is no hash."""
        match = _HASH.fullmatch(written)
        if match is None:
            raise ValueError("not a hash as `pointsman keys hash` makes it")
        if match.group(1) != self.mark:
            raise OtherSecret("made with another key secret")
        return bytes.fromhex(match.group(2))
