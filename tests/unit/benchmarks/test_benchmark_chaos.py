"""What a chaos run counts as a failure, and what it finds in the books."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.asking import BROKEN, UNREACHABLE, Answer
from benchmarks.books import UpstreamLogs, compare
from benchmarks.steady import Call, Try, success

DEAD = [(10.0, 12.0)]


def tried(outcome: str, begun: float, ended: float, code: str | None = None, id_: str = "") -> Try:
    return Try(Answer(outcome, id_ or None, code=code), begun, ended)


def call(*tries: Try) -> Call:
    return Call("mark-0000001", "a stage", list(tries))


@pytest.mark.parametrize(
    ("one", "counted"),
    [
        (tried("200", 1, 2), "good"),
        (tried("200", 9, 13), "good"),
        (tried("502", 1, 2, "upstream_cut"), "failed"),
        (tried("429", 11, 11.5, "policy_rate_limited"), "failed"),
        (tried(UNREACHABLE, 9, 10.5), "lost"),
        (tried(UNREACHABLE, 11, 11.1), "lost"),
        (tried(BROKEN, 9, 10.5), "lost"),
        (tried(BROKEN, 9, 10.5, "upstream_timeout"), "failed"),
        (tried(UNREACHABLE, 1, 2), "failed"),
        (tried(UNREACHABLE, 12.5, 13), "failed"),
    ],
)
def test_only_what_met_no_living_gateway_is_left_out(one: Try, counted: str) -> None:
    told = success([call(one)], DEAD)
    found = {"good": told.good, "failed": len(told.failures), "lost": told.no_gateway}
    assert found == {**dict.fromkeys(found, 0), counted: 1}
    assert told.reached == told.good + len(told.failures)


class Logs(UpstreamLogs):
    """Of one mark."""

    def __init__(self, asked: dict[str, int]) -> None:
        super().__init__({})
        self._asked = asked

    def by_mark(self) -> dict[str, Counter[str]]:
        return {"mark-0000001": Counter(self._asked)}


def row(id_: str, *attempts: tuple[str, str], outcome: str = "ok") -> dict[str, Any]:
    written = [
        {"upstream": upstream, "outcome": how, "estimated": False, "text_bytes": 0}
        for upstream, how in attempts
    ]
    return {"id": id_, "outcome": outcome, "attempts": written}


FAILED_OVER = row("req_1", ("east", "server_error"), ("north", "ok"))


def test_books_that_fit() -> None:
    one = call(tried("200", 1, 2, id_="req_1"))
    told = compare([one], [FAILED_OVER], Logs({"east": 1, "north": 1}))
    assert (told.good, told.compared, told.without_row, told.twice) == (1, 1, [], [])
    assert told.not_as_asked == []


def test_an_answer_that_was_not_booked() -> None:
    told = compare([call(tried("200", 1, 2, id_="req_1"))], [], Logs({"north": 1}))
    assert told.without_row == ["req_1"]


@pytest.mark.parametrize("asked", [{"east": 1}, {"east": 1, "north": 2}, {"east": 2, "north": 1}])
def test_more_or_less_than_was_booked(asked: dict[str, int]) -> None:
    one = call(tried("200", 1, 2, id_="req_1"))
    assert compare([one], [FAILED_OVER], Logs(asked)).not_as_asked == ["mark-0000001"]


def test_what_may_not_have_been_sent_may_be_missing() -> None:
    one = call(tried("200", 1, 2, id_="req_1"))
    booked = row("req_1", ("east", "connect_failed"), ("west", "stale"), ("west", "ok"))
    for asked in ({"west": 1}, {"west": 2}):
        assert compare([one], [booked], Logs(asked)).not_as_asked == []
    assert compare([one], [booked], Logs({"west": 1, "east": 1})).not_as_asked


def test_two_successes_of_one_request() -> None:
    one = call(tried(BROKEN, 9, 11, id_="req_1"), tried("200", 12, 13, id_="req_2"))
    rows = [row("req_1", ("east", "ok")), row("req_2", ("east", "ok"))]
    assert compare([one], rows, Logs({"east": 2})).twice == ["mark-0000001"]
