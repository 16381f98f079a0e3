"""Every fault of the scripted upstream, with a well model beside it: what the client sees, what is
booked, and that nothing is left behind. docs/reliability.md has a row for each."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import orjson
import psutil
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from app.simulated.faults import FAULTS
from tests.gateway.conftest import Gateway, Serve, eventually

USER: Any = [{"role": "user", "content": "Hello"}]
PORTS = ("refused", "unreachable", "silent", "not_http", "tls_broken", "wrong_certificate")
TIMES = "{connect_seconds: 0.3, first_byte_seconds: 0.5, idle_seconds: 0.5, total_seconds: 1.5}"
FRESH = "retries: {attempts: 0}, breaker: null, max_cooldown_seconds: 0"
"""Each request is told of its fault itself: none is asked again, nothing is remembered."""
PATIENT = "{first_byte_seconds: 20, idle_seconds: 20, total_seconds: 20}"
BOUNDED_BY_SIZE = ("endless_head", "endless_body", "endless_event", "gzip_bomb")
"""However long they may take: only a bound on what is read can end them."""
AT_ONCE = 4
SPARE_DESCRIPTORS = 3
"""The ledger's own come and go."""

CODES = {
    "connect_failed": (502, "upstream_unreachable"),
    "cut": (502, "upstream_cut"),
    "timeout": (504, "upstream_timeout"),
    "malformed": (502, "upstream_malformed"),
    "rate_limited": (429, "upstream_rate_limited"),
    "server_error": (502, "upstream_server_error"),
}
CHARGED = {"cut", "timeout", "malformed"}


@dataclass(frozen=True)
class Expected:
    """How an attempt at a plain answer, and one at a stream, goes: `ok`, or a failed outcome.

    `late` is one of a stream that had begun; `priced` is whether a good answer has a cost.
    """

    whole: str
    stream: str
    late: bool = False
    priced: bool = True


def both(outcome: str, **more: Any) -> Expected:
    return Expected(outcome, outcome, **more)


EXPECTED: dict[str, Expected] = {
    "refused": both("connect_failed"),
    "unreachable": both("connect_failed"),
    "tls_broken": both("connect_failed"),
    "wrong_certificate": both("connect_failed"),
    "silent": both("timeout"),
    "not_http": both("malformed"),
    "reset_before_head": both("cut"),
    "reset_in_head": both("cut"),
    "reset_in_first_event": both("cut"),
    "reset_after_events": Expected("ok", "cut", late=True),
    "closed_in_body": both("cut"),
    "closed_after_events": Expected("ok", "cut", late=True),
    "slow_head": both("timeout"),
    "slow_first_byte": both("timeout"),
    "slow_drip": both("timeout"),
    "stall_in_first_event": both("timeout"),
    "stall_after_events": Expected("ok", "timeout", late=True),
    "bad_framing": both("malformed"),
    "empty_body": both("malformed"),
    "html_page": both("malformed"),
    "wrong_content_type": both("ok"),
    "events_for_a_body": Expected("malformed", "ok"),
    "body_for_events": Expected("ok", "malformed"),
    "truncated_json": Expected("malformed", "malformed", late=True),
    "truncated_stream": Expected("ok", "cut", late=True),
    "malformed_sse": both("malformed"),
    "error_that_stalls": both("rate_limited"),
    "error_that_is_cut": both("server_error"),
    "error_without_end": both("server_error"),
    "error_with_200": both("malformed"),
    "huge_headers": both("malformed"),
    "endless_head": both("malformed"),
    "endless_body": both("malformed"),
    "endless_event": Expected("ok", "malformed", late=True),
    "endless_stream": Expected("ok", "timeout", late=True),
    "gzip_unasked": both("ok"),
    "gzip_bomb": both("malformed"),
    "usage_missing": both("ok", priced=False),
    "usage_absurd": both("ok", priced=False),
    **{
        name: both("rate_limited" if name.endswith("_429") else "server_error")
        for name in FAULTS
        if name[-3:].isdigit() and name != "error_with_200"
    },
}


@dataclass
class Seen:
    """What a client saw of one request."""

    id: str
    model: str | None = None
    text: str = ""
    status: int = 200
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


async def ask(client: AsyncOpenAI, model: str, *, stream: bool) -> Seen:
    create: Any = client.chat.completions.with_raw_response.create
    try:
        raw = await create(model=model, messages=USER, stream=stream)
    except openai.APIStatusError as error:
        headers = dict(error.response.headers)
        told = headers["x-pointsman-request-id"]
        return Seen(told, None, "", error.status_code, error.code, headers)
    headers = dict(raw.headers)
    seen = Seen(headers["x-pointsman-request-id"], headers.get("x-pointsman-model"))
    answer = raw.parse()
    if not stream:
        seen.text = answer.choices[0].message.content
        return seen
    try:
        async for chunk in answer:
            seen.text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        seen.code = error.code
    return seen


def config(running_upstream: Control) -> str:
    """A model and a route a fault."""
    ports = running_upstream.ports()
    schemes = {"tls_broken": "https", "wrong_certificate": "https"}
    sim = running_upstream.base_url
    upstreams = {"sim": sim} | {
        name: f"{schemes.get(name, 'http')}://127.0.0.1:{ports[name]}/v1" for name in PORTS
    }
    lines = ["upstreams:"]
    lines += [f"  patient: {{kind: openai, base_url: '{sim}', timeouts: {PATIENT}, {FRESH}}}"]
    lines += [
        f"  {name}: {{kind: openai, base_url: '{url}', timeouts: {TIMES}, {FRESH}}}"
        for name, url in upstreams.items()
    ]
    lines += ["models:"]
    for name in [*EXPECTED, "well"]:
        upstream, price = (name if name in PORTS else "sim"), 2 if name == "well" else 1
        if name in (*BOUNDED_BY_SIZE, "well"):
            upstream = "patient"
        lines.append(
            f"  {name}: {{upstream: {upstream}, quality: 0.8, "
            f"prices: {{input: {price}, output: {price}}}}}"
        )
    lines += ["routes:"]
    lines += [
        f"  past_{name}: {{candidates: [{name}, well], baseline: well, router: null, "
        "objective: {kind: quality, keep: 0.5}}"
        for name in EXPECTED
    ]
    return "\n".join(lines).replace("{", "{{").replace("}", "}}")


@pytest.fixture(scope="module")
def one(_serve: Serve, running_upstream: Control) -> Gateway:
    return _serve(config(running_upstream))


@asynccontextmanager
async def client_of(one: Gateway) -> AsyncIterator[AsyncOpenAI]:
    # Certificates that nobody needs take longer to load than all the rest.
    async with one.client(http_client=httpx2.AsyncClient(verify=False)) as client:
        yield client


@dataclass(frozen=True)
class Outcome:
    """A fault as four requests met it: on a route with a well model, and pinned."""

    plain: Seen
    stream: Seen
    pinned_plain: Seen
    pinned_stream: Seen
    seconds: float

    @property
    def ids(self) -> list[str]:
        return [
            seen.id for seen in (self.plain, self.stream, self.pinned_plain, self.pinned_stream)
        ]


async def meet(client: AsyncOpenAI, fault: str) -> Outcome:
    started = time.monotonic()
    seen = await asyncio.gather(
        ask(client, f"past_{fault}", stream=False),
        ask(client, f"past_{fault}", stream=True),
        ask(client, fault, stream=False),
        ask(client, fault, stream=True),
    )
    return Outcome(*seen, time.monotonic() - started)


async def meet_all(one: Gateway) -> dict[str, Outcome]:
    """Some at a time; those that are bounded by size alone, as they take what there is."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with client_of(one) as client:

        async def in_turn(fault: str) -> tuple[str, Outcome]:
            async with slots:
                return fault, await meet(client, fault)

        heavy = [(fault, await meet(client, fault)) for fault in BOUNDED_BY_SIZE]
        light = [in_turn(fault) for fault in EXPECTED if fault not in BOUNDED_BY_SIZE]
        return dict([*heavy, *await asyncio.gather(*light)])


async def keep_connections(one: Gateway) -> None:
    async with client_of(one) as client:
        asking = (ask(client, "well", stream=False) for _ in range(8 * AT_ONCE))
        await asyncio.gather(*asking)


@dataclass(frozen=True)
class Met:
    """All faults, what was booked of each request, and the descriptors that were open before."""

    outcomes: dict[str, Outcome]
    rows: dict[str, dict[str, Any]]
    descriptors: int


@pytest.fixture(scope="module")
def met(one: Gateway, running_upstream: Control) -> Met:
    running_upstream.clear()
    running_upstream.script("well", times=8 * AT_ONCE, delay_seconds=0.3)
    asyncio.run(keep_connections(one))
    before = psutil.Process(one.process.pid).num_fds()
    for fault in FAULTS:
        running_upstream.script(fault, times=None, fault=fault)
    outcomes = asyncio.run(meet_all(one))
    ids = [name for outcome in outcomes.values() for name in outcome.ids]
    return Met(outcomes, booked(one, ids), before)


def test_every_fault_is_tried() -> None:
    assert set(EXPECTED) == {*FAULTS, *PORTS}


@pytest.mark.parametrize("fault", EXPECTED)
def test_fault(met: Met, fault: str) -> None:
    expected, outcome = EXPECTED[fault], met.outcomes[fault]
    assert outcome.seconds < (15 if fault in BOUNDED_BY_SIZE else 8)
    assert_answered(outcome.plain, fault, expected.whole, late=False)
    assert_answered(outcome.stream, fault, expected.stream, late=expected.late)
    assert_pinned(outcome.pinned_plain, expected.whole, late=False)
    assert_pinned(outcome.pinned_stream, expected.stream, late=expected.late)
    plain, stream, pinned_plain, pinned_stream = (met.rows[name] for name in outcome.ids)
    for row, pinned in ((plain, False), (pinned_plain, True)):
        assert_booked(row, fault, expected, expected.whole, late=False, pinned=pinned)
    for row, pinned in ((stream, False), (pinned_stream, True)):
        assert_booked(row, fault, expected, expected.stream, late=expected.late, pinned=pinned)


@pytest.mark.parametrize(
    ("cut", "sizes"),
    [("cut_head_after_bytes", range(1, 90, 8)), ("cut_after_bytes", range(0, 1200, 60))],
)
async def test_a_reset_at_any_byte(
    one: Gateway, simulated: Control, cut: str, sizes: range
) -> None:
    """Before the first event is whole another model answers; from there on it is an error."""
    whole = one.chat(model="well", stream=True).text
    first = len(whole.partition("\n\n")[0].replace('"well"', '"reset_in_head"')) + 2
    async with client_of(one) as client:
        for size in sizes:
            simulated.clear()
            simulated.script("reset_in_head", times=None, **{cut: size})
            seen = await ask(client, "past_reset_in_head", stream=True)
            if cut == "cut_after_bytes" and size >= first:
                assert (seen.model, seen.code) == ("reset_in_head", "upstream_cut"), size
            else:
                assert (seen.model, seen.code) == ("well", None), size


def test_nothing_is_left_behind(one: Gateway, met: Met) -> None:
    process = psutil.Process(one.process.pid)
    eventually(lambda: one.metric("pointsman_requests_in_flight") == 0)
    eventually(lambda: process.num_fds() <= met.descriptors + SPARE_DESCRIPTORS)
    assert one.http.get("/readyz").status_code == 200
    assert "Traceback" not in (log := one.new_log()), log


def booked(one: Gateway, ids: list[str]) -> dict[str, dict[str, Any]]:
    """The ledger's rows of some requests, once they are there."""
    rows: dict[str, dict[str, Any]] = {}

    def found() -> bool:
        with closing(sqlite3.connect(one.folder / ".pointsman" / "ledger.db")) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute("select * from requests"):
                rows[row["id"]] = {**row, "attempts": orjson.loads(row["attempts"])}
        return rows.keys() >= set(ids)

    eventually(found, 15)
    return rows


def assert_answered(seen: Seen, fault: str, outcome: str, *, late: bool) -> None:
    """On a route: the well model answers, unless the faulty one does or had begun to."""
    assert seen.status == 200
    if late:
        assert (seen.model, seen.code) == (fault, CODES[outcome][1])
        return
    assert seen.code is None
    assert seen.text
    assert seen.model == (fault if outcome == "ok" else "well")


def assert_pinned(seen: Seen, outcome: str, *, late: bool) -> None:
    """With nobody else to turn to."""
    if outcome == "ok":
        assert (seen.status, seen.code) == (200, None)
        assert seen.text
    elif late:
        assert (seen.status, seen.code) == (200, CODES[outcome][1])
    else:
        assert (seen.status, seen.code) == CODES[outcome]


def assert_booked(
    row: dict[str, Any], fault: str, expected: Expected, outcome: str, *, late: bool, pinned: bool
) -> None:
    attempts = row["attempts"]
    faulty = [one for one in attempts if one["model"] == fault]
    others = [one["outcome"] for one in attempts if one["model"] != fault]
    # A break on a kept connection may be its closing while idle; that one is asked again.
    assert {one["outcome"] for one in faulty} - {"stale"} <= {outcome}
    assert faulty
    failed_over = not (outcome == "ok" or late or pinned)
    assert others == (["ok"] if failed_over else [])
    if late:
        assert (row["status"], row["outcome"]) == (200, outcome)
    elif outcome == "ok" or failed_over:
        assert (row["status"], row["outcome"]) == (200, "ok")
    else:
        assert (row["status"], row["outcome"]) == (CODES[outcome][0], "error")
    if not expected.priced:
        assert row["cost_nano"] is None
        return
    assert row["cost_estimated"] == (outcome in CHARGED and any(a["estimated"] for a in faulty))
    if {one["outcome"] for one in faulty} == {"stale"}:
        outcome = "stale"  # on two kept connections one after the other
    if outcome in CHARGED:
        assert sum(one["cost"] for one in faulty) > 0
    elif outcome != "ok":
        assert [one["cost"] for one in faulty] == [0] * len(faulty)
    assert row["cost_nano"] == sum(one["cost"] for one in attempts)
