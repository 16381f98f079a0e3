"""The configuration that was taken last, kept by several workers for those that start later.

A worker that takes the place of a dead one must serve what its siblings serve, and start even if
the file has become wrong meanwhile. So it starts by the copy, and then takes the file like everyone
else, by a reload. The copy may hold secrets: it lies in a directory of its own user's.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "POINTSMAN_TAKEN"
"""Where the copy is. Set by the parent of several workers."""


def keep(version: int, source: bytes) -> None:
    """Nothing, where there is but one process."""
    if VARIABLE not in os.environ:
        return
    file = Path(os.environ[VARIABLE])
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(b"%d\n%b" % (version, source))
    fresh.replace(file)


def kept() -> tuple[int, bytes]:
    """Its version and its bytes."""
    version, _, source = Path(os.environ[VARIABLE]).read_bytes().partition(b"\n")
    return int(version), source
