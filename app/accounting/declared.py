"""From the configuration and the environment to the keyring that serving starts with.

What is wrong with keys is found here, at `check`: a hash made with another secret, an admin key
that can be guessed, a gateway that anyone on the network could spend with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from app.accounting.key_secret import find_secret
from app.accounting.key_text import Hasher, OtherSecret
from app.accounting.keyring import Key, Keyring, declared
from app.config.hosts import is_loopback
from app.config.load import Loaded
from app.errors import KeySecretError, Problem

ADMIN_VARIABLE = "POINTSMAN_ADMIN_KEY"
HOST_VARIABLE = "POINTSMAN_HOST"
"""Where `serve` really listens, if it was told otherwise than the file says."""
_LEAST_CHARACTERS = 16


def keyring(loaded: Loaded, environment: Mapping[str, str]) -> tuple[Keyring, list[Problem]]:
    """The keys of the YAML and the admin key, with every problem found."""
    config, document = loaded.config, loaded.document
    problems: list[Problem] = []
    secret = None
    try:
        secret = find_secret(environment, Path(document.file).parent)
    except KeySecretError as error:
        problems.append(document.problem(("keys",), str(error)))
    # Without a secret there are no hashes to compare with but the one made here of the admin key.
    hasher = Hasher(secret or os.urandom(32))
    keys: dict[str, Key] = {}
    if config.keys and secret is None and not problems:
        problems.append(
            document.problem(
                ("keys",),
                "there is no key secret that their hashes could be checked with",
                "set POINTSMAN_KEY_SECRET to the one they were made with",
            )
        )
    elif secret is not None:
        for i, written in enumerate(config.keys):
            try:
                keys[written.id] = declared(written, hasher)
            except OtherSecret:
                problems.append(
                    document.problem(
                        ("keys", i, "hash"),
                        "was made with another key secret than the one in use",
                        "set POINTSMAN_KEY_SECRET to that one, or make a new key",
                    )
                )
    admin_key = environment.get(ADMIN_VARIABLE, "").strip() or None
    if admin_key is not None and (wrong := _wrong_with(admin_key)):
        problems.append(Problem(document.file, None, ADMIN_VARIABLE, wrong))
    allow = config.server.allow_anonymous
    host = environment.get(HOST_VARIABLE) or config.server.host
    if not is_loopback(host) and allow is None and admin_key is None and not config.keys:
        problems.append(
            document.problem(
                ("server", "host"),
                f"without any key, whoever reaches {host} could spend your money",
                f"set {ADMIN_VARIABLE}, declare `keys`, or say `server.allow_anonymous`: "
                "false (keys are in the database) or true (serve everybody)",
            )
        )
    return Keyring(hasher, keys, admin_key, allow_anonymous=allow), problems


def _wrong_with(admin_key: str) -> str | None:
    if len(admin_key) < _LEAST_CHARACTERS:
        return f"is shorter than {_LEAST_CHARACTERS} characters; take `openssl rand -hex 32`"
    if not admin_key.isascii() or not admin_key.isprintable() or " " in admin_key:
        return "must be printable ASCII without spaces, as it is sent in a header"
    return None
