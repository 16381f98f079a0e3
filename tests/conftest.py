"""What tests of every kind share: servers that are costly to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres as server
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with server.running() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes addresses of new databases; the test runs over both kinds."""
    if request.param == "sqlite":
        numbers = iter(range(1_000))
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"
    one: Postgres = request.getfixturevalue("postgres")
    return one.database


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    return new_database()
