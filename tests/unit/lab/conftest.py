"""A small synthetic world, trained once."""

from pathlib import Path

import pytest

from app.lab.outcomes import OutcomeTable, build_table
from app.lab.synthetic import synthetic_rows, train_synthetic


@pytest.fixture(scope="session")
def table() -> OutcomeTable:
    return build_table(synthetic_rows(900, seed=1))


@pytest.fixture(scope="session")
def router_directory(table: OutcomeTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("routers") / "words"
    train_synthetic(table, out)
    return out
