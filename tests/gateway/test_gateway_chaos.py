"""Everything around a gateway fails in turn under load: the short form of `benchmarks.chaos`."""

from __future__ import annotations

import os
import shutil

import pytest

from benchmarks.chaos import Result, run
from benchmarks.failing import STAGES

SECONDS, RATE = 22.0, 25.0


@pytest.mark.slow
async def test_chaos() -> None:
    if shutil.which("redis-server") is None and not os.environ.get("CI"):
        pytest.skip("redis-server is not there: apt-get install redis-server")
    result = await run(SECONDS, RATE)
    assert_served(result)
    assert_booked_once(result)
    assert result.leaks == []
    assert result.tracebacks == 0


def assert_served(result: Result) -> None:
    """Of so few requests not one may fail, if 9,999 of 10,000 are to be served."""
    assert result.success.failures == ()
    assert result.unserved == []
    assert result.success.good > 0.8 * SECONDS * RATE
    assert set(result.stages) >= {name for name, _, _ in STAGES}
    assert len(result.dead) >= 1
    assert result.reloads
    assert set(result.reloads) == {200}


def assert_booked_once(result: Result) -> None:
    books = result.books
    assert (books.without_row, books.twice, books.not_as_asked) == ([], [], [])
    assert books.logs_complete
    assert books.compared > 0.5 * books.good
    assert books.rows == books.summed >= books.good
    assert books.costs_nano[0] == books.costs_nano[1] > 0
    assert result.budget_fits
