"""Checks the key of every request, in memory: no look-up leaves the process.

A key is found by the id in its text and holds if the keyed hash of the whole text is the one that
is kept, compared in constant time. Keys come from the YAML, from the database (whose changes
`take` is told of) and from `POINTSMAN_ADMIN_KEY`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from time import time

from app.accounting.caller import Caller
from app.accounting.key_text import MAX_BYTES, Hasher, id_in
from app.accounting.limits import Limits
from app.config import schema
from app.errors import KeyRefused, UnknownKey

ADMIN_ID = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept; moments in seconds since 1970.

    `former` is the digest that the last rotation replaced; it holds until `former_until`.
    """

    caller: Caller
    digest: bytes
    expires: float | None = None
    revoked: float | None = None
    former: bytes | None = None
    former_until: float = 0.0


def caller_of(key_id: str, terms: schema.KeyTerms) -> Caller:
    """Who sends a key of these terms. A scope on one of routes and models closes the other."""
    routes = None if terms.routes is None else frozenset(terms.routes)
    models = None if terms.models is None else frozenset(terms.models)
    if routes is None and models is not None:
        routes = frozenset()
    if models is None and routes is not None:
        models = frozenset()
    return Caller(
        key_id=key_id,
        name=terms.name or key_id,
        tags=tuple(terms.tags),
        routes=routes,
        models=models,
        admin=terms.admin,
        metrics=terms.metrics,
        limits=None if terms.limits is None else Limits.compile(terms.limits),
    )


def declared(written: schema.Key, hasher: Hasher) -> Key:
    """A key of the YAML. Raises OtherSecret."""
    expires = None if written.expires is None else written.expires.timestamp()
    return Key(caller_of(written.id, written), hasher.read(written.hash), expires)


class Keyring:
    """Every key that is known now."""

    def __init__(
        self,
        hasher: Hasher,
        declared: Mapping[str, Key],
        admin_key: str | None = None,
        *,
        allow_anonymous: bool | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        """`declared` are the YAML's keys by id."""
        self.hasher = hasher
        self.declared = dict(declared)
        self.stored: dict[str, Key] = {}
        self.allow_anonymous = allow_anonymous
        self.awaits = False
        """A key is asked for until the database has been read: there may be keys in it."""
        self._clock = clock
        self._admin_digest = None if admin_key is None else hasher.digest(admin_key.encode())
        self._admin = Caller(ADMIN_ID, ADMIN_ID, admin=True, metrics=True)

    def take(self, changed: Mapping[str, Key]) -> None:
        """What has changed in the database since the last time; a revoked key stays known."""
        self.stored.update(changed)
        self.awaits = False

    def adopt(self, written: Keyring) -> None:
        """The keys of another reading of the YAML, in place of its own; those of the database
        stay. Both must be of one key secret as long as there is a database."""
        self.hasher = written.hasher
        self.declared = written.declared
        self.allow_anonymous = written.allow_anonymous
        self._admin_digest = written._admin_digest

    def limits(self) -> Iterator[Limits | None]:
        """Of every key."""
        for key in (*self.declared.values(), *self.stored.values()):
            yield key.caller.limits

    @property
    def configured(self) -> bool:
        """Whether there is any key, or may be one: once there is, keys are asked for."""
        return bool(self.awaits or self.declared or self.stored or self._admin_digest is not None)

    @property
    def asks(self) -> bool:
        """Whether who sends no key is refused."""
        return self.configured if self.allow_anonymous is None else not self.allow_anonymous

    @property
    def guarded(self) -> bool:
        """Whether metrics are for some only."""
        return self.configured or self.allow_anonymous is False

    def holds(self, text: bytes | None) -> bool:
        """Whether a key is valid as far as is known now."""
        try:
            return text is not None and self.check(text) is not None
        except KeyRefused:
            return False

    def check(self, text: bytes) -> Caller:
        """Whose key this is. Raises UnknownKey, or KeyRefused for a key that has ended."""
        if len(text) > MAX_BYTES:
            raise KeyRefused("This is longer than any key.")
        digest = self.hasher.digest(text)
        if self._admin_digest is not None and compare_digest(digest, self._admin_digest):
            return self._admin
        key_id = id_in(text)
        if key_id is None:
            raise UnknownKey
        key = self.declared.get(key_id) or self.stored.get(key_id)
        if key is None:
            raise UnknownKey
        if key.expires is None and key.revoked is None and compare_digest(digest, key.digest):
            return key.caller
        return self._check_times(key_id, key, digest)

    def _check_times(self, key_id: str, key: Key, digest: bytes) -> Caller:
        """The rest of the check. Only to who has the key's text is told why it no longer holds."""
        now = self._clock()
        current = compare_digest(digest, key.digest)
        former = key.former is not None and compare_digest(digest, key.former)
        if not current and not former:
            raise UnknownKey
        if key.revoked is not None:
            raise KeyRefused(f"Key {key_id} was revoked on {_day(key.revoked)}.")
        if key.expires is not None and now >= key.expires:
            raise KeyRefused(f"Key {key_id} expired on {_day(key.expires)}.")
        if former and now >= key.former_until:
            raise KeyRefused(
                f"Key {key_id} was replaced; the text before ended on {_day(key.former_until)}."
            )
        return key.caller


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
