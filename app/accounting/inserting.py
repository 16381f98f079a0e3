"""Statements that are made once and run for every batch of the ledger.

They go straight to the driver. With many columns what SQLAlchemy does for each row costs more than
the database does; and its way to SQLite's thread and back, four times for a statement, is what
requests would notice of a batch most: each time the interpreter changes hands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import JSON, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

Row = dict[str, Any]


class Insert:
    """An INSERT for many rows."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._sql = str(compiled)
        names: list[str] = compiled.positiontup
        self._values = itemgetter(*names)
        columns = statement.table.c
        self._json = [at for at, name in enumerate(names) if isinstance(columns[name].type, JSON)]

    async def run(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Raises SQLAlchemy's DBAPIError."""
        if not rows:
            return
        values = [self._driven(row) for row in rows]
        if connection.dialect.name != "sqlite":
            await connection.exec_driver_sql(self._sql, values)
            return
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            await driver.executemany(self._sql, values)
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                self._sql, None, error, sqlite3.Error, hide_parameters=True
            ) from error

    def _driven(self, row: Row) -> tuple[Any, ...]:
        values = list(self._values(row))
        for at in self._json:
            if values[at] is not None:
                values[at] = orjson.dumps(values[at]).decode()
        return tuple(values)
