"""The secret that key hashes are keyed with: from the environment, else made once and kept.

`POINTSMAN_KEY_SECRET` has the last word; replicas and machines that share keys must share it.
Without it the first command or gateway that needs one makes it and keeps it beside the
configuration, readable by its owner alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from app.errors import KeySecretError

VARIABLE = "POINTSMAN_KEY_SECRET"
FILE = Path(".pointsman", "key-secret")
"""Seen from the configuration's folder."""
_LEAST_CHARACTERS = 32


def find_secret(environment: Mapping[str, str], folder: Path) -> bytes | None:
    """The secret, if there is one; `folder` holds the configuration.

    Raises KeySecretError for one that is no use.
    """
    if VARIABLE in environment:
        secret = environment[VARIABLE].strip()
        if len(secret) < _LEAST_CHARACTERS:
            raise KeySecretError(
                f"{VARIABLE} is shorter than {_LEAST_CHARACTERS} characters; "
                "take the output of `openssl rand -hex 32`"
            )
        return secret.encode()
    file = folder / FILE
    try:
        secret = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KeySecretError(f"{file} can't be read: {error}; or set {VARIABLE}") from error
    if len(secret) < _LEAST_CHARACTERS:
        raise KeySecretError(f"{file} is damaged: restore it, or set {VARIABLE}")
    return secret.encode()


def find_or_make_secret(environment: Mapping[str, str], folder: Path) -> bytes:
    """The secret; a new one is kept first. Raises KeySecretError where it can't be kept."""
    secret = find_secret(environment, folder)
    if secret is not None:
        return secret
    file = folder / FILE
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep(file, secrets.token_hex(32))
    except OSError as error:
        raise KeySecretError(
            f"no key secret can be kept in {file}: {error.strerror}; set {VARIABLE}"
        ) from error
    kept = find_secret(environment, folder)
    assert kept is not None
    return kept


def _keep(file: Path, secret: str) -> None:
    """Write the file whole or not at all; who comes second keeps what the first one wrote."""
    draft = file.with_name(f"{file.name}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as out:
            out.write(secret + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink()
