"""Every fault of the scripted upstream, with a well model beside it: what the client sees, what is
booked, and that nothing is left behind. docs/reliability.md has a row for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import openai
import psutil
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from app.simulated.faults import FAULTS
from tests.gateway.conftest import Gateway, Serve, eventually
from tests.gateway.test_gateway_ledger import read

USER: Any = [{"role": "user", "content": "Hello"}]
PORTS = ("refused", "unreachable", "silent", "not_http", "tls_broken", "wrong_certificate")
TIMES = "{connect_seconds: 0.3, first_byte_seconds: 0.5, idle_seconds: 0.5, total_seconds: 1.5}"
FRESH = "retries: {attempts: 0}, breaker: null, max_cooldown_seconds: 0"
"""Each request is told of its fault itself: none is asked again, nothing is remembered."""
PATIENT = "{first_byte_seconds: 20, idle_seconds: 20, total_seconds: 20}"
BOUNDED_BY_SIZE = ("endless_head", "endless_body", "endless_event", "gzip_bomb")
"""However long they may take: only a bound on what is read can end them."""
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


@pytest.fixture
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


@pytest.fixture
def one(gateway: Serve, config: str) -> Gateway:
    return gateway(config)


@pytest.fixture
async def client(one: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with one.client() as client:
        yield client


_baselines: dict[int, int] = {}


async def descriptors(one: Gateway, client: AsyncOpenAI, simulated: Control) -> int:
    """How many the gateway has open when it has done its work, with connections kept."""
    pid = one.process.pid
    if pid not in _baselines:
        simulated.script("well", times=None, delay_seconds=0.2)
        await asyncio.gather(*(ask(client, "well", stream=False) for _ in range(8)))
        simulated.clear()
        _baselines[pid] = psutil.Process(pid).num_fds()
    return _baselines[pid]


def test_every_fault_is_tried() -> None:
    assert set(EXPECTED) == {*FAULTS, *PORTS}


@pytest.mark.parametrize(
    ("cut", "sizes"),
    [("cut_head_after_bytes", range(1, 90, 8)), ("cut_after_bytes", range(0, 1200, 60))],
)
async def test_a_reset_at_any_byte(
    one: Gateway, client: AsyncOpenAI, simulated: Control, cut: str, sizes: range
) -> None:
    """Before the first event is whole another model answers; from there on it is an error."""
    whole = one.chat(model="well", stream=True).text
    first = len(whole.partition("\n\n")[0].replace('"well"', '"reset_in_head"')) + 2
    for size in sizes:
        simulated.clear()
        simulated.script("reset_in_head", times=None, **{cut: size})
        seen = await ask(client, "past_reset_in_head", stream=True)
        if cut == "cut_after_bytes" and size >= first:
            assert (seen.model, seen.code) == ("reset_in_head", "upstream_cut"), size
        else:
            assert (seen.model, seen.code) == ("well", None), size
    assert one.metric("pointsman_requests_in_flight") == 0


@pytest.mark.parametrize("fault", EXPECTED)
async def test_fault(one: Gateway, client: AsyncOpenAI, simulated: Control, fault: str) -> None:
    before = await descriptors(one, client, simulated)
    if fault in FAULTS:
        simulated.script(fault, times=None, fault=fault)
    expected = EXPECTED[fault]
    started = time.monotonic()
    plain, stream, pinned_plain, pinned_stream = await asyncio.gather(
        ask(client, f"past_{fault}", stream=False),
        ask(client, f"past_{fault}", stream=True),
        ask(client, fault, stream=False),
        ask(client, fault, stream=True),
    )
    assert time.monotonic() - started < (15 if fault in BOUNDED_BY_SIZE else 5)
    await client.close()

    assert_answered(plain, fault, expected.whole, late=False)
    assert_answered(stream, fault, expected.stream, late=expected.late)
    assert_pinned(pinned_plain, expected.whole, late=False)
    assert_pinned(pinned_stream, expected.stream, late=expected.late)

    url = f"sqlite:///{one.folder}/.pointsman/ledger.db"
    ids = [seen.id for seen in (plain, stream, pinned_plain, pinned_stream)]
    rows: dict[str, Any] = {}

    def booked() -> bool:
        rows.update(read(url))
        return all(name in rows for name in ids)

    await asyncio.to_thread(eventually, booked)
    whole, late = partial(assert_booked, fault=fault, late=False), expected.late
    whole(rows[plain.id], outcome=expected.whole, pinned=False, priced=expected.priced)
    whole(rows[pinned_plain.id], outcome=expected.whole, pinned=True, priced=expected.priced)
    for seen, pinned in ((stream, False), (pinned_stream, True)):
        assert_booked(
            rows[seen.id], fault=fault, outcome=expected.stream, late=late, pinned=pinned,
            priced=expected.priced,
        )  # fmt: skip

    process = psutil.Process(one.process.pid)
    assert one.metric("pointsman_requests_in_flight") == 0
    await asyncio.to_thread(eventually, lambda: process.num_fds() <= before + SPARE_DESCRIPTORS)


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
    row: dict[str, Any], *, fault: str, outcome: str, late: bool, pinned: bool, priced: bool
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
    if not priced:
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
