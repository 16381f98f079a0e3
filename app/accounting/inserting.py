"""Statements that are made once and run for every batch of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import JSON, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

Row = dict[str, Any]


class Insert:
    """An INSERT compiled once and handed to the driver as it is: with many columns, what
    SQLAlchemy does for each row costs more than the database does."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._sql = str(compiled)
        names: list[str] = compiled.positiontup
        self._values = itemgetter(*names)
        columns = statement.table.c
        self._json = [at for at, name in enumerate(names) if isinstance(columns[name].type, JSON)]

    async def run(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        if rows:
            await connection.exec_driver_sql(self._sql, [self._driven(row) for row in rows])

    def _driven(self, row: Row) -> tuple[Any, ...]:
        values = list(self._values(row))
        for at in self._json:
            if values[at] is not None:
                values[at] = orjson.dumps(values[at]).decode()
        return tuple(values)
