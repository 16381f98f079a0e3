"""Revisions of the schema, one line of them, each named by its file.

A new table is a new file in `versions` that begins with the next number and revises the last one.
A revision that has been released is never changed. Only `database` runs them.
"""

from __future__ import annotations

from pathlib import Path

REVISIONS = tuple(sorted(file.stem for file in (Path(__file__).parent / "versions").glob("r*.py")))
HEAD = REVISIONS[-1]
