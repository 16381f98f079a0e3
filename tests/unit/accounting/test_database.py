"""One database for everybody who keeps something: made once, kept, and never misread."""

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from app.accounting.database import UNAVAILABLE, Database
from app.accounting.migrations import HEAD
from app.errors import DatabaseError

OPEN = """
import asyncio, sys
from app.accounting.database import Database
asyncio.run(Database.open(sys.argv[1]))
"""


async def revisions(database: Database) -> list[str]:
    async with database.read() as connection:
        found = await connection.execute(text("SELECT version_num FROM alembic_version"))
        return [row.version_num for row in found]


async def test_a_new_database_gets_the_latest_schema(database_url: str) -> None:
    for _ in range(2):
        database = await Database.open(database_url)
        assert await revisions(database) == [HEAD]
        await database.close()


async def test_processes_that_start_together_make_one_schema(database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, database_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    database = await Database.open(database_url)
    assert await revisions(database) == [HEAD]
    await database.close()


async def test_a_schema_from_the_future_is_refused(database_url: str) -> None:
    database = await Database.open(database_url)
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'r9999_x'"))
    await database.close()
    with pytest.raises(DatabaseError, match=r"made by a newer Pointsman.*r9999_x.*newer version"):
        await Database.open(database_url)


async def test_a_password_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        await Database.open("mysql://me:secret@host/name")
    assert "secret" not in str(caught.value)


async def test_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UNAVAILABLE):
        await Database.open("postgresql://nobody@127.0.0.1:1/none")
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match=r"ledger\.db can't be opened: "):
        await Database.open(f"sqlite:///{tmp_path}/file/ledger.db")


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/new/ledger.db")
    files = [tmp_path / "new", *(tmp_path / "new").iterdir()]
    assert len(files) == 4
    assert [file.stat().st_mode & 0o077 for file in files] == [0] * 4
    await database.close()


async def test_one_at_a_time(database_url: str) -> None:
    first, second = await Database.open(database_url), await Database.open(database_url)
    async with first.alone("tidying") as mine, second.alone("tidying") as theirs:
        assert (mine, theirs) == (True, False)
        async with second.alone("something else") as other:
            assert other
    async with second.alone("tidying") as theirs:
        assert theirs
    await first.close()
    await second.close()


async def test_what_fails_leaves_no_trace(database_url: str) -> None:
    database = await Database.open(database_url)

    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(
                text("INSERT INTO journal_positions (segment, position) VALUES ('a', 1)")
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read() as connection:
        count = await connection.scalar(text("SELECT count(*) FROM journal_positions"))
    assert count == 0
    await database.close()


async def test_opening_it_twice_in_a_process_leaves_its_locks_alone(tmp_path: Path) -> None:
    """POSIX drops a process's locks on a file with the first descriptor of it that is closed; the
    next to leave would then take the write-ahead log away from under who is writing.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    first = await Database.open(url)
    second = await Database.open(url)
    assert await looked_up(tmp_path / "ledger.db", "requests")
    async with first.write() as connection:
        await connection.execute(text("CREATE TABLE kept (id INTEGER)"))
    async with second.read() as connection:
        assert (await connection.execute(text("SELECT * FROM kept"))).all() == []
    assert await looked_up(tmp_path / "ledger.db", "kept")
    await first.close()
    await second.close()


async def looked_up(file: Path, table: str) -> bool:
    """Whether another process that comes and goes finds a table."""
    look = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM ' + sys.argv[2])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", look, str(file), table)
    return await process.wait() == 0


async def test_what_fails_quotes_no_values(database_url: str) -> None:
    """They may be prompts, and what fails is logged."""
    database = await Database.open(database_url)
    statement = text("INSERT INTO prompts (id, at_us, text) VALUES (:id, NULL, :text)")
    with pytest.raises(UNAVAILABLE) as caught:
        async with database.write() as connection:
            await connection.execute(statement, {"id": "an id", "text": "a prompt"})
    await database.close()
    assert "INSERT INTO prompts" in str(caught.value)
    if database.is_sqlite:
        assert "a prompt" not in str(caught.value)
    assert "parameters: (" not in str(caught.value)
