"""Opens outcome files by their suffix and reads them row by row: JSON lines, CSV, parquet.

Whatever a broken file makes gzip, orjson, csv or pyarrow raise leaves this door as a DataError.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from app.errors import DataError
from app.lab.layouts import Columns, Gathered, read_object, read_table, recognise
from app.lab.rows import FieldProblem, OutcomeRow

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")

_LONGEST_CELL = 2**26
_BATCH_ROWS = 2048
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b", re.IGNORECASE)


def read_file(path: Path, label: str) -> Iterator[tuple[int, OutcomeRow]]:
    """Rows of one file with the number of the row they begin in. Raises DataError, which calls the
    file by its label.

    In JSON lines the number is that of the line; a CSV file's header is row 1, as in a spreadsheet;
    a parquet file's first row is row 1.
    """
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{label}: outcome files end in {', '.join(SUFFIXES)}")
    stem = path.name[: -len(suffix)] or path.name
    try:
        if suffix == ".parquet":
            for gathered in _read_parquet(path, label, stem):
                yield from gathered.rows()
            return
        with gzip.open(path, "rb") if suffix.endswith(".gz") else path.open("rb") as lines:
            read = _read_json_lines if suffix.startswith(".jsonl") else _read_csv
            for gathered in read(lines, label, stem):
                yield from gathered.rows()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{label}: cannot be read: {error}") from error


def _read_json_lines(lines: Iterable[bytes], label: str, stem: str) -> Iterator[Gathered]:
    for number, line in enumerate(_without_mark(lines), start=1):
        if not line.strip():
            continue
        try:
            yield read_object(orjson.loads(line), number, stem)
        except orjson.JSONDecodeError as error:
            hint = (
                "; JSON has no NaN or Infinity: write null, or leave the field out"
                if _NOT_A_NUMBER.search(line)
                else ""
            )
            raise DataError(f"{label}: row {number}: not valid JSON: {error}{hint}") from error
        except (FieldProblem, DataError) as problem:
            raise DataError(f"{label}: row {number}: {problem}") from problem


def _read_csv(lines: Iterable[bytes], label: str, stem: str) -> Iterator[Gathered]:
    # The module's limit is one for the process; a prompt may well be longer than its default.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    table = _csv_rows(lines, label)
    header = next(table, None)
    if header is None:
        return
    names = [name.strip() for name in header[1]]
    columns = recognise(names, label)
    yield from read_table(columns, _csv_records(table, names, columns, label), label, stem)


def _csv_rows(lines: Iterable[bytes], label: str) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        # Line by line, so that bytes that are no text are reported with their row.
        decoded = (line.decode() for line in _without_mark(lines))
        for cells in csv.reader(decoded, strict=True):
            number += 1
            if any(cells):
                yield number, cells
    except UnicodeDecodeError as error:
        raise DataError(
            f"{label}: row {number + 1}: not UTF-8 text: {error.reason}; save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{label}: row {number + 1}: not valid CSV: {error}") from error


def _csv_records(
    table: Iterable[tuple[int, list[str]]], names: list[str], columns: Columns, label: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    wanted = [
        (at, name, name in columns.numbers) for at, name in enumerate(names) if name in columns.used
    ]
    for number, cells in table:
        if len(cells) != len(names):
            raise DataError(
                f"{label}: row {number}: {len(cells)} cells, but the header has {len(names)}"
            )
        yield (
            number,
            {name: _cell(cells[at], is_number=is_number) for at, name, is_number in wanted},
        )


def _cell(cell: str, *, is_number: bool) -> str | float | None:
    if not cell.strip():
        return None
    if not is_number:
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell  # refused, with its field, as any value that is no number


def _read_parquet(path: Path, label: str, stem: str) -> Iterator[Gathered]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{label}: parquet needs pyarrow: pip install 'pointsman[lab]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            columns = recognise(file.schema_arrow.names, label)
            batches = file.iter_batches(_BATCH_ROWS, columns=list(columns.used))
            records = (record for batch in batches for record in batch.to_pylist())
            yield from read_table(columns, enumerate(records, start=1), label, stem)
    except (ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{label}: cannot be read: {error}") from error


def _without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without the byte order mark that some programs begin a file with."""
    rest = iter(lines)
    for first in rest:
        yield first.removeprefix(codecs.BOM_UTF8)
        break
    yield from rest
