"""Traces to a real OTLP/HTTP receiver, client to upstream in one trace; and JSON logs."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx2
import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Serve, body, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
TEXT = "a secret of the user's"
MODES = ("--log-format", "json", "--access-log")


class Collector:
    """What an OTLP/HTTP receiver was sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service: dict[str, str] = {}
        self.raw = b""
        self.keys: set[str | None] = set()
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"]))
                collector.raw += sent
                collector.keys.add(self.headers["x-collector-key"])
                for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
                    collector.service = {
                        one.key: one.value.string_value for one in resource.resource.attributes
                    }
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.server.daemon_threads = True
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    if one.thread.is_alive():
        one.stop()


def traced(collector: Collector) -> str:
    section = f"tracing: {{{{endpoint: '{collector.url}', headers: {{{{X-Collector-Key: k}}}}}}}}\n"
    return STANDARD + section


def attributes(span: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes
    }


def test_a_client_s_trace_goes_through_and_everything_names_it(
    gateway: Serve, simulated: Control, collector: Collector
) -> None:
    one = gateway(traced(collector), *MODES, OTEL_BSP_SCHEDULE_DELAY="50", OTEL_SERVICE_NAME="gate")
    simulated.script("up-small", status=503)
    answer = one.http.post(
        "/v1/chat/completions",
        json=body(messages=[{"role": "user", "content": TEXT}], stream=True),
        headers={"traceparent": PARENT, "x-pointsman-debug": "true"},
    )
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-trace-id"] == TRACE
    request_id = answer.headers["x-pointsman-request-id"]

    eventually(lambda: len(collector.spans) >= 4)
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {
        "POST /v1/chat/completions", "decide", "chat up-small", "chat up-medium"
    }  # fmt: skip
    assert collector.service["service.name"] == "gate"
    assert collector.keys == {"k"}
    own, served = spans["POST /v1/chat/completions"], spans["chat up-medium"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert own.parent_span_id.hex() == "b7ad6b7169203331"
    assert served.parent_span_id == own.span_id
    assert attributes(own)["pointsman.request.id"] == request_id
    assert attributes(served)["gen_ai.usage.output_tokens"] > 0
    # To the upstreams: each in its own span of the same trace.
    sent = [dict(map(tuple, exchange["headers"]))["traceparent"] for exchange in simulated.log()]
    assert sent == [
        f"00-{TRACE}-{spans[name].span_id.hex()}-01" for name in ("chat up-small", "chat up-medium")
    ]

    logged: list[dict[str, Any]] = []
    eventually(lambda: logged.extend(map(orjson.loads, lines(one.new_log()))) or access(logged))
    told = {line["logger"]: line for line in logged if line.get("request_id") == request_id}
    assert told["pointsman.access"]["trace_id"] == TRACE
    assert told["pointsman.access"]["model"] == "medium"
    assert told["pointsman"]["level"] == "warning", "the failed attempt"
    assert any(line["logger"].startswith("uvicorn") for line in logged)
    assert TEXT.encode() not in collector.raw
    assert TEXT not in str(logged)


def lines(log: str) -> list[str]:
    """All but what the command itself says."""
    return [line for line in log.splitlines() if not line.startswith("Pointsman on")]


def access(logged: list[dict[str, Any]]) -> bool:
    return any(line.get("path") == "/v1/chat/completions" for line in logged)


def test_a_collector_that_is_away_disturbs_nothing(
    gateway: Serve, simulated: Control, collector: Collector
) -> None:
    """It is told of once, and the end does not wait for it (the fixture stops the gateway)."""
    text = traced(collector)
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    collector.stop()
    one = gateway(text, **environment)
    log = ""

    def is_told() -> bool:
        nonlocal log
        assert one.chat().status_code == 200
        log += one.new_log()
        return "traces can't be sent" in log

    eventually(is_told)
    for _ in range(20):
        assert one.chat().status_code == 200
    httpx2.get(f"{one.url}/readyz").raise_for_status()
    log += one.new_log()
    assert log.count("traces can't be sent") == 1
    assert "opentelemetry" not in log
