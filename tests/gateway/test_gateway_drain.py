"""SIGTERM: not ready at once, served for a while, what runs ends, what does not is cut."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, _start, body, eventually
from tests.gateway.test_gateway_ledger import read

LONG = {"chunks": 2_000, "chunk_delay_seconds": 0.02}


@pytest.fixture
def served(simulated: Control, tmp_path: Path) -> Iterator[Any]:
    """Starts a gateway with these settings of `server.drain`, which the test ends."""
    with ExitStack() as stack:

        def start(drain: str, *arguments: str) -> Gateway:
            text = STANDARD.format(upstream=simulated.base_url)
            url = f"sqlite:///{tmp_path}/ledger.db"
            closed = drain if "}" in drain else drain + "}"
            text += f"server: {{drain: {{{closed}}}\nledger: {{url: '{url}'}}\n"
            (tmp_path / "config.yaml").write_text(text)
            return _start(tmp_path, arguments, stack)

        yield start


def ask(served: Gateway, **fields: Any) -> httpx2.Response:
    """On a connection of its own."""
    return httpx2.post(f"{served.url}/v1/chat/completions", json=body(**fields), timeout=30)


def get(served: Gateway, path: str) -> tuple[int, bytes]:
    """On a new connection, and at once: httpx2 would read the system's certificates first."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def readiness(served: Gateway) -> tuple[int, str]:
    status, told = get(served, "/readyz")
    return status, orjson.loads(told)["status"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_on_as_not_ready_and_ends_what_runs(served: Any, workers: str) -> None:
    one = served("delay_seconds: 2", "--workers", workers)
    script = {"chunks": 30, "chunk_delay_seconds": 0.1}
    request = body(stream=True, x_simulate=script)
    with one.http.stream("POST", "/v1/chat/completions", json=request) as answer:
        lines = answer.iter_lines()
        next(lines)
        started = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        eventually(lambda: readiness(one) == (503, "draining"), 1)
        late = ask(one)
        assert late.status_code == 200
        assert late.headers["connection"] == "close"
        assert get(one, "/livez")[0] == 200
        eventually(lambda: not listens(one))
        assert time.monotonic() - started > 1.9
        assert "data: [DONE]" in list(lines)
    assert one.process.wait(15) == 0
    assert "Traceback" not in (log := one.new_log()), log
    assert [row["outcome"] for row in requests(one)] == ["ok", "ok"]


def listens(served: Gateway) -> bool:
    try:
        get(served, "/livez")
    except (OSError, HTTPException):  # refused, or it closed just then
        return False
    return True


def requests(served: Gateway) -> list[dict[str, Any]]:
    """Rows of the ledger, with no gateway there that would book what is missing."""
    return list(read(f"sqlite:///{served.folder}/ledger.db").values())


def test_what_outlasts_the_time_is_told_and_booked(served: Any) -> None:
    one = served("timeout_seconds: 0.3")
    with ThreadPoolExecutor(1) as threads, httpx2.Client(base_url=one.url, timeout=30) as http:
        whole = threads.submit(ask, one, x_simulate={"delay_seconds": 60})
        request = body(stream=True, x_simulate=LONG)
        with http.stream("POST", "/v1/chat/completions", json=request) as answer:
            lines = answer.iter_lines()
            next(lines)
            eventually(lambda: one.metric("pointsman_requests_in_flight") == 2)
            started = time.monotonic()
            one.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        refused = whole.result()
    assert one.process.wait(15) == 0
    assert time.monotonic() - started < 10
    assert '"gateway_stopping"' in rest[-1]
    assert "data: [DONE]" not in rest
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "gateway_stopping")
    assert refused.headers["retry-after"] == "1"
    rows = {row["outcome"]: row for row in requests(one)}
    assert (rows["stopped"]["status"], rows["error"]["status"]) == (200, 503)
    # Both had been sent, and are charged for as far as is known.
    assert all(row["cost_nano"] > 0 and row["cost_estimated"] for row in rows.values())
    assert "Traceback" not in (log := one.new_log()), log
    assert "2 requests outlasted the time to end" in log


def test_a_stream_that_is_yet_to_begin_is_told_too(served: Any) -> None:
    one = served("timeout_seconds: 0.5}, keep_alive_comment_seconds: 0.1")
    request = body(stream=True, x_simulate={"delay_seconds": 60})
    with one.http.stream("POST", "/v1/chat/completions", json=request) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(":")
        one.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert '"gateway_stopping"' in rest[-1]
    assert one.process.wait(15) == 0
    (row,) = requests(one)
    assert (row["status"], row["outcome"], row["cost_estimated"]) == (200, "stopped", True)
    assert "Traceback" not in (log := one.new_log()), log


def test_a_client_that_does_not_read_holds_nothing_up(served: Any) -> None:
    one = served("timeout_seconds: 1")
    flood = {"chunks": 50_000, "text": "word " * 50_000}
    content = httpx2.Request("POST", one.url, json=body(stream=True, x_simulate=flood)).content
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", one.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(head.encode() + content)
        assert deaf.recv(12) == b"HTTP/1.1 200"
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(15) == 0
    assert [row["outcome"] for row in requests(one)] == ["stopped"]
    assert "Traceback" not in (log := one.new_log()), log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_quits_at_once(served: Any, workers: str) -> None:
    one = served("delay_seconds: 60, timeout_seconds: 60", "--workers", workers)
    with one.http.stream(
        "POST", "/v1/chat/completions", json=body(stream=True, x_simulate=LONG)
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        one.process.send_signal(signal.SIGTERM)
        eventually(lambda: readiness(one) == (503, "draining"), 1)
        one.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert any("gateway_stopping" in line for line in lines)
        code = one.process.wait(15)
    assert time.monotonic() - started < 10
    assert code == (128 + signal.SIGTERM if workers == "1" else 0)
    # It is in the journal: whoever serves next books it.
    waiting = "".join(file.read_text() for file in one.folder.glob(".pointsman/journal/*"))
    assert waiting.count('"request_id"') == 1
    assert '"outcome":"stopped"' in waiting
