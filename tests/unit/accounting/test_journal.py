"""Lines on the disk: whole or not at all, and each process's own until it is dead."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from time import time

import pytest

from app.accounting import journal as journals
from app.accounting.journal import Journal

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from app.accounting.journal import Journal
journal = Journal(Path(sys.argv[1]), "db")
for n in range(100):
    journal.append(b"line %d\\n" % n)
os.write(journal.segments[-1]._handle, b"half a li")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "db")


def read_all(journal: Journal, at_once: int = 7) -> list[bytes]:
    """Everything that is left, reading as the ledger does."""
    found: list[bytes] = []
    for segment in journal.segments:
        while segment.read_to < segment.size:
            lines, segment.read_to = segment.lines(at_once)
            found += [line for _, line in lines]
    return found


def test_lines_come_back_in_their_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 300)
    monkeypatch.setattr(journals, "_READ_BYTES", 64)
    written = [b"%d " % n + b"x" * (n % 90) for n in range(60)]
    for line in written:
        journal.append(line + b"\n")
    assert len(journal.segments) > 3
    assert sum(segment.count() for segment in journal.segments) == 60
    assert read_all(journal) == written
    assert [segment.is_done for segment in journal.segments[:-1]] == [True] * (
        len(journal.segments) - 1
    )


def test_ends_are_where_reading_can_go_on(journal: Journal) -> None:
    for n in range(10):
        journal.append(b"%d\n" % n)
    (segment,) = journal.segments
    lines, end = segment.lines(4)
    assert end == lines[-1][0] == 8
    segment.read_to = lines[1][0]
    assert [line for _, line in segment.lines(2)[0]] == [b"2", b"3"]


def test_the_dead_leave_what_they_wrote_and_nothing_half(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_AND_DIE, str(tmp_path)], check=False, timeout=30
    )
    assert done.returncode == -9
    heir = Journal(tmp_path, "db")
    (segment,) = heir.adopt()
    assert segment.count() == 100
    assert read_all(heir) == [b"line %d" % n for n in range(100)]
    assert segment.is_done
    heir.remove(segment)
    assert list(tmp_path.iterdir()) == []


def test_the_living_are_left_alone(journal: Journal, tmp_path: Path) -> None:
    journal.append(b"mine\n")
    other = Journal(tmp_path, "db")
    assert other.adopt() == []
    assert journal.adopt() == []
    journal.close()
    (adopted,) = other.adopt()
    assert Journal(tmp_path, "db").adopt() == []
    assert [line for _, line in adopted.lines(9)[0]] == [b"mine"]


def test_another_database_is_another_journal(journal: Journal, tmp_path: Path) -> None:
    journal.append(b"mine\n")
    journal.close()
    other = Journal(tmp_path, "another")
    assert other.adopt() == []
    assert other.strangers() == 1


def test_a_full_disk_leaves_no_half_line(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(b"first\n")
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
        with pytest.raises(OSError) as caught:
            journal.append(b"second\n")
    assert caught.value.errno == errno.ENOSPC
    journal.append(b"third\n")
    assert read_all(journal) == [b"first", b"third"]


def test_a_disk_that_lets_nothing_be_undone_begins_anew(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(b"first\n")
    write = os.write

    def refuse(*_: int) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
        patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError):
            journal.append(b"second\n")
    journal.append(b"third\n")
    assert len(journal.segments) == 2
    assert read_all(journal) == [b"first", b"third"]


def test_a_long_backlog_is_few_files(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 1_000)
    for _ in range(5_000):
        journal.append(b"x" * 99 + b"\n")
    assert 20 < len(journal.segments) < 35
    assert len(read_all(journal, 1_000)) == 5_000


def test_the_dead_are_many_and_are_taken_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "ADOPTED_AT_ONCE", 3)
    for n in range(5):
        dead = Journal(tmp_path, "db")
        dead.append(b"%d\n" % n)
        dead.close()
    heir = Journal(tmp_path, "db")
    assert len(heir.adopt()) == 3
    assert heir.adopt() == []
    for segment in list(heir.segments):
        heir.remove(segment)
    assert len(heir.adopt()) == 2


def test_a_file_whose_maker_died_before_it_had_a_name_goes(
    journal: Journal, tmp_path: Path
) -> None:
    for name, age in (("old", 100), ("young", 1)):
        file = tmp_path / f"db-{name}.new"
        file.touch()
        os.utime(file, (time() - age, time() - age))
    journal.adopt()
    assert [file.name for file in tmp_path.iterdir()] == ["db-young.new"]


def test_nobody_else_may_read_it(journal: Journal, tmp_path: Path) -> None:
    journal.append(b"x\n")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
