"""The log as lines of text and of JSON, and what is in them."""

import logging
import threading
from collections.abc import Iterator

import orjson
import pytest

from app.exchange.record import Record
from app.exchange.trace import Trace
from app.exchange.usage import Usage
from app.telemetry import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logs.flush()
    root.handlers, root.level = handlers, level
    logs.current.set(None)


def served() -> Record:
    record = Record("req_1", started=0.0, received=0.0)
    record.trace = Trace(0xAB, 0xCD, None, sampled=True, propagates=True)
    record.route, record.model, record.status, record.outcome = "auto", "small", 200, "ok"
    record.decision, record.usage = "learned", Usage(100, 50)
    record.cost, record.baseline_cost = 1_500_000, 4_000_000
    record.duration_seconds = 0.25
    record.prompt, record.key_id = "a secret of the user's", "key7"
    return record


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    logging.getLogger("a.library").info("Started\nwell, %s", "all")
    logs.current.set(served())
    try:
        raise ValueError("why")
    except ValueError:
        logs.log.exception("it %s", "failed")
    logs.flush()
    first, second = map(orjson.loads, capsys.readouterr().err.splitlines())
    assert first.keys() == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"]) == ("info", "a.library")
    assert first["message"] == "Started\nwell, all"
    assert first["time"].endswith("+00:00")
    assert (second["request_id"], second["trace_id"]) == ("req_1", f"{0xAB:032x}")
    assert second["message"] == "it failed"
    assert "ValueError: why" in second["exception"]


def test_a_line_for_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    record = served()
    logs.current.set(record)
    logs.request_line(record)
    logs.flush()
    line = capsys.readouterr().err
    told = orjson.loads(line)
    assert told["logger"] == "pointsman.access"
    expected = {
        "method": "POST", "path": "/v1/chat/completions", "status": 200, "outcome": "ok",
        "route": "auto", "model": "small", "duration_seconds": 0.25, "cost_usd": "0.0015",
        "saved_usd": "0.0025", "input_tokens": 100, "request_id": "req_1",
    }  # fmt: skip
    assert told.items() >= expected.items()
    assert "secret" not in line
    assert "key7" not in line


def test_the_same_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    record = served()
    record.cost = None
    logs.request_line(record)
    logs.flush()
    line = capsys.readouterr().err
    assert line.endswith(
        "INFO pointsman.access: req_1 POST /v1/chat/completions 200 ok, route auto, model small, "
        "0.250 s, $?\n"
    )


def test_lines_are_written_by_another_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """And an argument that changes afterwards is told as it was."""
    writers: list[str] = []
    logs.configure("INFO", "text")
    listener = logs._listening[0]
    listener.handlers[0].addFilter(
        lambda record: writers.append(threading.current_thread().name) or True
    )
    told = ["before"]
    logs.log.info("%s", told)
    told[0] = "after"
    logs.flush()
    assert writers
    assert threading.current_thread().name not in writers
    assert "before" in capsys.readouterr().err


def test_a_path_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks writes it, and it comes decoded: nobody is to write lines of our log."""
    logs.configure("INFO")
    logs.other_line(
        "req_2", "GET", "/v1/models\n2026 ERROR pointsman: all is lost\x1b[2J", 404, 0.1
    )
    logs.flush()
    (told,) = capsys.readouterr().err.splitlines()
    assert "GET /v1/models%0A2026%20ERROR%20pointsman" in told
    assert "\x1b" not in told


def test_what_cannot_be_written_does_not_pile_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 3)
    may_write = threading.Event()
    formatted = logs.Text.format

    def waits(self: logs.Text, record: logging.LogRecord) -> str:
        may_write.wait(5)
        return formatted(self, record)

    monkeypatch.setattr(logs.Text, "format", waits)
    logs.configure("INFO")
    for number in range(20):
        logs.log.info("message %d", number)
    may_write.set()
    while logs.waiting():
        may_write.wait(0)
    logs.log.info("the last one")
    logs.flush()
    told = capsys.readouterr().err.splitlines()
    assert 4 <= len(told) <= 7
    assert "message 0" in told[0]
    assert "messages were left out" in told[-2]
    assert "the last one" in told[-1]
