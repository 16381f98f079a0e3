"""The table of faults in the docs, the faults of the scripted upstream and the tests are one."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from app.simulated.behaviour import Behaviour
from app.simulated.faults import FAULTS
from tests.gateway.test_gateway_faults import CODES, EXPECTED, PORTS

TEXT = Path("docs/reliability.md").read_text()


def rows() -> dict[str, list[str]]:
    """The cells of each fault's row."""
    found: dict[str, list[str]] = {}
    for line in TEXT.partition("## Faults")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "`test_fault[" in line:
            found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells)
    return found


def test_every_fault_has_a_row() -> None:
    assert set(rows()) == {*FAULTS, *PORTS}


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_row_says_what_the_test_expects(fault: str) -> None:
    _, _, plain, before, after, booked, tests = rows()[fault]
    expected = EXPECTED[fault]
    assert f"`test_fault[{fault}]`" in tests
    assert _codes(plain) == _expected(expected.whole)
    where, other = (after, before) if expected.late else (before, after)
    assert _codes(where) == _expected(expected.stream)
    assert _codes(other) == []
    assert ("null" in booked) is not expected.priced
    failed = {expected.whole, expected.stream} - {"ok"}
    assert set(re.findall(r"`(\w+)`", booked)) == failed


def _codes(cell: str) -> list[str]:
    return re.findall(r"`(upstream_\w+)`", cell)


def _expected(outcome: str) -> list[str]:
    return [] if outcome == "ok" else [CODES[outcome][1]]


@pytest.mark.parametrize("key", [one.name for one in fields(Behaviour)])
def test_every_key_of_a_behaviour_is_documented(key: str) -> None:
    assert f"`{key}`" in TEXT
