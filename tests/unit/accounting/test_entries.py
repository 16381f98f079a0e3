"""From a record to a line and to a row, whatever an upstream has put into it."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.accounting.caller import ANONYMOUS
from app.accounting.entries import entry, line, prompt_row, request_row, sums
from app.accounting.limiter import Hold, Limiter
from app.accounting.limits import Limits
from app.accounting.most import Size
from app.exchange.record import Attempt
from app.exchange.usage import Usage
from app.state.base import Ask
from app.state.memory import MemoryState
from app.telemetry.metrics import Metrics
from tests.unit.accounting.records import NOON, record

WIDEST = 2 * 10**15


def test_a_row_says_what_the_record_said() -> None:
    told = entry(line(record(3))[:-1])
    assert told is not None
    row = request_row(told)
    assert row == {
        "id": "req_3",
        "at_us": round(NOON + 3) * 1_000_000,
        "route": "auto",
        "model": "small",
        "upstream": "sim",
        "decision": "learned",
        "reason": "cheapest_good_enough",
        "speed": "encoded",
        "status": 200,
        "outcome": "ok",
        "key_id": "key_1",
        "tags": ["team-a"],
        "input_tokens": 100,
        "cached_tokens": 10,
        "cache_write_tokens": 0,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "other_usage": None,
        "cost_nano": 1_000,
        "cost_estimated": False,
        "upstream_cost_nano": None,
        "baseline_cost_nano": 5_000,
        "saved_nano": 4_000,
        "duration_seconds": 0.2,
        "overhead_seconds": None,
        "decide_seconds": 0.0,
        "upstream_seconds": 0.0,
        "first_token_seconds": None,
        "predictions": [
            {"model": "small", "quality": 0.8, "low": 0.7, "high": 0.9, "cost": 900}
            | {"eligible": True}
        ],
        "attempts": [
            {"upstream": "sim", "model": "small", "outcome": "ok", "seconds": 0.1, "status": 200}
            | {"usage": None, "usage_fault": None, "charged": True, "text_bytes": 0}
            | {"cost": None, "estimated": False, "deployment": None}
        ],
    }
    assert prompt_row(told) is None


OLDEST = (
    b'{"request_id":"req_1","started":1.0,"received":1.1,"route":"auto","decision":"rule",'
    b'"reason":"only_candidate","speed":"none","key_id":null,"tags":[],"model":"small",'
    b'"upstream":"sim","status":200,"outcome":"ok","attempts":[{"upstream":"sim",'
    b'"model":"small","outcome":"ok","seconds":0.1,"status":200}],"usage":{"input_tokens":100,'
    b'"output_tokens":20,"cached_tokens":10,"cache_write_tokens":0,"reasoning_tokens":5,'
    b'"upstream_cost":7},"cost":1000,"baseline_cost":5000,"booked":0.0,"duration_seconds":0.2,'
    b'"overhead_seconds":null,"decide_seconds":0.0,"upstream_seconds":0.1,'
    b'"first_token_seconds":null,"at":1764072000.0,"predictions":[]}'
)
"""As the first version wrote it; what came later is not there."""


def test_a_line_of_the_first_version_is_read() -> None:
    """Left in a journal by a process that died before the upgrade. Never change this text."""
    told = entry(b"%08x %b" % (crc32(OLDEST), OLDEST))
    assert told is not None
    row = request_row(told)
    assert (row["cost_nano"], row["saved_nano"], row["upstream_cost_nano"]) == (1_000, 4_000, 7)
    assert row["cost_estimated"] is False
    assert set(row) == set(request_row(entry(line(record())[:-1]) or {}))
    assert sums([row])["unpriced"] == 0


def test_what_was_held_of_limits_is_in_no_line() -> None:
    """It would make lines several times as long, and sixty times as slow to write."""
    limits = Limits(in_all=1_000, tokens_per_minute=1_000)
    limiter = Limiter(MemoryState(), {("gateway", ""): limits}, (), Metrics(CollectorRegistry()))
    applied = limiter.applied(ANONYMOUS, "auto")
    held = record(
        hold=Hold("r", applied, Size(1, 1, 1), Ask(1, 2), [("x-ratelimit-limit-tokens", "1000")])
    )
    assert line(held) == line(record())
    assert held.hold is not None


def test_what_never_reached_a_model_has_no_cost_and_no_usage() -> None:
    refused = record(model=None, upstream=None, usage=None, cost=None, attempts=[], status=404)
    told = entry(line(refused)[:-1])
    assert told is not None
    row = request_row(told)
    assert (row["input_tokens"], row["cost_nano"], row["saved_nano"]) == (None, None, None)
    assert sums([row])["unpriced"] == 0


def test_an_unknown_cost_is_counted_and_not_summed() -> None:
    told = [entry(line(record(n, cost=cost))[:-1]) for n, cost in enumerate((None, 7, 0))]
    total = sums([request_row(one) for one in told if one])
    assert (total["requests"], total["unpriced"], total["cost_nano"]) == (3, 1, 7)


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_a_changed_line_is_not_believed(at: int) -> None:
    written = bytearray(line(record())[:-1])
    written[at] ^= 1
    assert entry(bytes(written)) is None


@given(st.integers(0, 400))
def test_a_cut_line_is_not_believed(length: int) -> None:
    assert entry(line(record())[:length]) is None


@given(
    st.integers(-(10**40), 10**40),
    st.integers(-(10**40), 10**40) | st.none(),
    st.text() | st.just("half a pair \ud800 and \x00"),
)
def test_nothing_that_a_database_refuses_comes_through(
    tokens: int, cost: int | None, text: str
) -> None:
    strange = record(
        usage=Usage(tokens, tokens),
        cost=cost,
        prompt=text,
        tags=(text,),
        attempts=[Attempt(text, text, text, 0.1)],
        model=text,
        embedding=b"\x00\xff",
    )
    written = line(strange)
    assert written.count(b"\n") == 1
    told = entry(written[:-1])
    assert told is not None
    row, kept = request_row(told), prompt_row(told)
    assert kept is not None
    for number in (row["input_tokens"], row["cost_nano"], row["saved_nano"]):
        assert number is None or -WIDEST <= number <= WIDEST
    for written_text in (row["model"], *row["tags"], row["attempts"][0]["outcome"], kept["text"]):
        assert "\x00" not in written_text
        written_text.encode()
    assert kept["embedding"] == b"\x00\xff"
