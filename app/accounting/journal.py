"""The journal: what was settled and is not in the database yet, on the local disk.

Each process appends to segments of its own and holds a lock on each, which ends with the process:
a segment that can be locked by another was left behind by the dead, and is the finder's to book.
A line is in the hands of the kernel when `append` returns, so `kill -9` loses none; `sync` puts it
on the disk. A segment is removed when the database has all of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from time import time
from uuid import uuid4

SEGMENT_BYTES = 1 << 20
"""A segment that has grown to this is closed, so that it can be removed. In a backlog each one is
longer than the last, so that the files stay few: 10 GB of it are some 140."""
ADOPTED_AT_ONCE = 50
"""Segments of the dead that are held open; the rest waits for these to be booked."""

_SUFFIX = ".journal"
_UNLOCKED_SUFFIX = ".new"
_STALE_SECONDS = 60.0
_READ_BYTES = 1 << 20


class Segment:
    """One file of lines, locked by this process as long as it is open."""

    def __init__(self, path: Path, handle: int, size: int) -> None:
        self.path = path
        self.size = size
        self.read_to = 0
        self.closed_to_writing = False
        self.unsynced = False
        self._handle = handle

    @property
    def name(self) -> str:
        """Of this segment and no other, on any machine."""
        return self.path.stem

    @property
    def is_done(self) -> bool:
        """Nothing more will be written, and all has been read."""
        return self.closed_to_writing and self.read_to >= self.size

    def append(self, line: bytes) -> None:
        """Write a line, or raise OSError and leave no part of it."""
        written = os.write(self._handle, line)
        if written == len(line):
            self.size += written
            self.unsynced = True
            return
        try:
            os.ftruncate(self._handle, self.size)
        except OSError:
            self.closed_to_writing = True  # a reader knows half a line for what it is
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def lines(self, count: int) -> tuple[list[tuple[int, bytes]], int]:
        """Up to `count` lines after `read_to`, each with where it ends, and where they all end.

        What stands at the end of a dead process's segment without a line feed is passed over: its
        request never had its answer.
        """
        data = self._read()
        found: list[tuple[int, bytes]] = []
        start = 0
        while len(found) < count and (stop := data.find(b"\n", start)) >= 0:
            found.append((self.read_to + stop + 1, data[start:stop]))
            start = stop + 1
        if not found and data:
            return [], self.size
        return found, self.read_to + start

    def count(self) -> int:
        """How many lines are left to read."""
        total, at = 0, self.read_to
        while block := os.pread(self._handle, _READ_BYTES, at):
            total += block.count(b"\n")
            at += len(block)
        return total

    def sync(self) -> None:
        """Put what is written on the disk. Raises OSError."""
        self.unsynced = False
        os.fdatasync(self._handle)

    def remove(self) -> None:
        """All of it is booked."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of it; a file that is still there is then anybody's."""
        os.close(self._handle)

    def _read(self) -> bytes:
        """Up to a block, or as much as it takes to see the end of a line."""
        size = _READ_BYTES
        while True:
            data = os.pread(self._handle, min(size, self.size - self.read_to), self.read_to)
            if b"\n" in data or len(data) < size:
                return data
            size *= 4


class Journal:
    """The segments of this process, and those it took over.

    `owner` names the database that they are for, so that a directory which serves two of them
    does not mix them up.
    """

    def __init__(self, directory: Path, owner: str) -> None:
        self._directory = directory
        self._owner = owner
        self._current: Segment | None = None
        self.segments: list[Segment] = []
        """Oldest first; what they hold is not booked yet."""

    def append(self, line: bytes) -> None:
        """Write a line. Raises OSError, with nothing written."""
        current = self._current
        if current is None or current.closed_to_writing:
            current = self._current = self._begin()
            self.segments.append(current)
        current.append(line)
        if current.size >= SEGMENT_BYTES * len(self.segments):
            current.closed_to_writing = True

    def adopt(self) -> list[Segment]:
        """Take over what dead processes left."""
        known = {segment.path for segment in self.segments}
        paths = sorted(self._directory.glob(f"{self._owner}-*{_SUFFIX}"), key=_written_at)
        tried = (_locked(path) for path in paths if path not in known)
        room = max(ADOPTED_AT_ONCE - len(self.segments), 0)
        found = list(islice((segment for segment in tried if segment is not None), room))
        for path in self._directory.glob(f"{self._owner}-*{_UNLOCKED_SUFFIX}"):
            if time() - _written_at(path) > _STALE_SECONDS:  # who made it died before it had a name
                path.unlink(missing_ok=True)
        self.segments = [*found, *self.segments]
        return found

    def lengths(self) -> dict[str, int]:
        """Bytes of every segment for this database by its name, whoever writes or books it."""
        found = {}
        for path in self._directory.glob(f"{self._owner}-*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # booked this moment
                found[path.stem] = path.stat().st_size
        return found

    def strangers(self) -> int:
        """How many segments are here for another database."""
        return sum(
            not path.name.startswith(f"{self._owner}-")
            for path in self._directory.glob(f"*{_SUFFIX}")
        )

    def remove(self, segment: Segment) -> None:
        self.segments.remove(segment)
        segment.remove()

    def sync(self) -> None:
        """Put what is written on the disk. Raises OSError. May be called from another thread."""
        unsynced = [segment for segment in self.segments if segment.unsynced]
        for segment in unsynced:
            segment.sync()
        if unsynced:
            # A new file's name is in its directory, which has a disk block of its own.
            handle = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def close(self) -> None:
        """Let go of everything; what is not booked is left for whoever comes next."""
        for segment in self.segments:
            segment.close()
        self.segments, self._current = [], None

    def _begin(self) -> Segment:
        path = self._directory / f"{self._owner}-{uuid4().hex}{_SUFFIX}"
        # Locked before it has the name that others look for.
        unlocked = path.with_suffix(_UNLOCKED_SUFFIX)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(unlocked, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(path)
        except OSError:
            os.close(handle)
            raise
        return Segment(path, handle, 0)


def _written_at(path: Path) -> float:
    """When it was last written, in seconds since 1970."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time()


def _locked(path: Path) -> Segment | None:
    """A segment of a dead process, now ours; None if its owner lives or it is gone."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    about = os.fstat(handle)
    if about.st_nlink == 0:  # booked and removed by another, between our two steps
        os.close(handle)
        return None
    segment = Segment(path, handle, about.st_size)
    segment.closed_to_writing = True
    return segment
