"""Spans of settled requests, by the real SDK and its in-memory exporter."""

import logging
from collections.abc import Iterator, Sequence
from threading import Semaphore
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.accounting.entries import entry, line
from app.exchange.record import Attempt, Prediction, Record
from app.exchange.request import Request
from app.exchange.trace import outgoing
from app.exchange.usage import Usage
from app.telemetry.tracing import Traces
from app.wire import openai_chat

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
PLACE = {"gen_ai.provider.name": "groq", "server.address": "api.groq.com", "server.port": 443}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    level = logging.getLogger("opentelemetry").level
    yield
    logging.getLogger("opentelemetry").setLevel(level)


def asked(**fields: Any) -> Request:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a secret of the user's"}]}]
    body = orjson.dumps({"model": "auto", "messages": messages, "temperature": 0.5, **fields})
    return openai_chat.parse(body, request_id="req_1", started=10.0, received=10.5, max_images=0)


def settled(traces: Traces, traceparent: str | None = None, **changes: Any) -> dict[str, str]:
    """A request whose first attempt failed and whose second one served; returns what the second
    upstream was sent."""
    record = Record("req_1", started=10.0, received=10.5, at=1_000.5)
    record.trace = traces.begin(traceparent, asked())
    record.route, record.decision, record.reason, record.speed = "auto", "fallback", "r", "text"
    record.decide_seconds = 0.25
    record.predictions = (Prediction("small", 0.5, 0.4, 0.6, 10, eligible=True),)
    first = Attempt("east", "small", "server_error", 0.5, 503, cost=0)
    usage = Usage(100, 50, cached_tokens=40)
    second = Attempt("west", "large", "ok", 1.0, 200, usage=usage, cost=1_500_000)
    outgoing.set({})
    for began, attempt in ((10.75, first), (11.25, second)):
        record.trace.call(attempt, f"{attempt.model}-id", PLACE)
        record.trace.calls[-1].began = began
        record.attempts.append(attempt)
    record.model, record.upstream, record.status, record.outcome = "large", "west", 200, "ok"
    record.usage, record.cost, record.baseline_cost = usage, 1_500_000, 4_000_000
    record.duration_seconds = 2.5
    for name, value in changes.items():
        setattr(record, name, value)
    traces.end(record)
    return dict(outgoing.get())


async def told(exporter: InMemorySpanExporter, traces: Traces) -> dict[str, ReadableSpan]:
    await traces.close()
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_request_is_a_span_with_its_decision_and_attempts_under_it() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces)
    spans = await told(exporter, traces)
    assert list(spans) == [
        "POST /v1/chat/completions", "decide", "chat small-id", "chat large-id"
    ]  # fmt: skip
    own, *children = spans.values()
    assert own.parent is None
    assert {span.parent.span_id for span in children if span.parent} == {own.context.span_id}
    assert len({span.context.span_id for span in spans.values()}) == 4
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert [span.kind for span in spans.values()] == [
        SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.CLIENT
    ]  # fmt: skip
    seconds = [(span.start_time / 1e9, span.end_time / 1e9) for span in spans.values()]  # type: ignore[operator]
    assert seconds == [
        (1_000.0, 1_002.5), (1_000.5, 1_000.75), (1_000.75, 1_001.25), (1_001.25, 1_002.25)
    ]  # fmt: skip
    assert own.resource.attributes["service.name"] == "pointsman"


async def test_what_the_spans_say() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces)
    spans = await told(exporter, traces)
    own = dict(spans["POST /v1/chat/completions"].attributes or {})
    assert own["pointsman.request.id"] == "req_1"
    assert own["pointsman.request.model"] == "auto"
    assert own["http.response.status_code"] == 200
    assert (own["pointsman.cost_usd"], own["pointsman.saved_usd"]) == (0.0015, 0.0025)
    assert not any(name.startswith("gen_ai.usage") for name in own), "tokens would count twice"
    served = dict(spans["chat large-id"].attributes or {})
    assert served.items() >= PLACE.items()
    assert served["gen_ai.operation.name"] == "chat"
    assert served["gen_ai.request.model"] == "large-id"
    assert served["gen_ai.request.temperature"] == 0.5
    assert served["gen_ai.usage.input_tokens"] == 100
    assert served["gen_ai.usage.output_tokens"] == 50
    assert served["gen_ai.usage.cache_read.input_tokens"] == 40
    assert "error.type" not in served
    failed = spans["chat small-id"]
    assert failed.status.status_code is StatusCode.ERROR
    assert dict(failed.attributes or {})["error.type"] == "server_error"
    assert dict(spans["decide"].attributes or {})["pointsman.candidates"] == ("small",)
    assert "secret of the user" not in str([span.to_json() for span in spans.values()])


async def test_a_stream_s_span_lasts_as_long_as_the_stream() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces, first_token_seconds=1.25)
    span = (await told(exporter, traces))["chat large-id"]
    assert span.end_time == 1_002_500_000_000
    assert dict(span.attributes or {})["gen_ai.response.time_to_first_chunk"] == 0.5


async def test_the_stream_is_that_of_the_attempt_which_served() -> None:
    """Not of the one that began last: that may be a hedge that was late itself."""
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces, first_token_seconds=1.25, model="small")
    spans = await told(exporter, traces)
    ends = [spans[name].end_time for name in ("chat small-id", "chat large-id")]
    assert ends == [1_002_500_000_000, 1_002_250_000_000]


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"status": 502, "outcome": "error", "model": None}, StatusCode.ERROR, "502"),
        ({"status": 429, "outcome": "error", "attempts": []}, StatusCode.UNSET, "429"),
        ({"status": 499, "outcome": "client_gone"}, StatusCode.UNSET, None),
        ({"status": 200, "outcome": "cut"}, StatusCode.ERROR, "cut"),
    ],
)
async def test_what_counts_as_an_error(
    changes: dict[str, Any], status: StatusCode, error: str | None
) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces, **changes)
    span = (await told(exporter, traces))["POST /v1/chat/completions"]
    assert span.status.status_code is status
    assert dict(span.attributes or {}).get("error.type") == error


async def test_the_client_s_trace_goes_on_to_the_upstream() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    sent = settled(traces, PARENT)["traceparent"]
    spans = await told(exporter, traces)
    own, served = spans["POST /v1/chat/completions"], spans["chat large-id"]
    assert own.parent is not None
    assert (own.parent.span_id, own.parent.is_remote) == (0xB7AD6B7169203331, True)
    assert own.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert sent == f"00-0af7651916cd43dd8448eb211c80319c-{served.context.span_id:016x}-01"


@pytest.mark.parametrize(
    "broken", ["", "00-0-0-01", PARENT[:-3], f"ff{PARENT[2:]}", "00-" + "0" * 32]
)
async def test_a_traceparent_that_is_none_begins_a_new_trace(broken: str) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces, broken)
    own = (await told(exporter, traces))["POST /v1/chat/completions"]
    assert own.parent is None
    assert own.context.trace_id != 0


async def test_what_is_not_sampled_is_not_told_and_upstreams_know() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, sample_share=0.0)
    for traceparent in (None, UNSAMPLED):
        assert settled(traces, traceparent)["traceparent"].endswith("-00")
    settled(traces, PARENT)  # a client that samples has decided for us
    assert len(await told(exporter, traces)) == 4


async def test_upstreams_need_not_know() -> None:
    traces = Traces(InMemorySpanExporter(), propagates=False)
    assert settled(traces, PARENT) == {}
    await traces.close()


async def test_the_environment_names_the_service_and_the_sampler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gate-7")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    settled(traces)
    settled(traces, PARENT)
    spans = await told(exporter, traces)
    assert len(spans) == 4
    assert spans["decide"].resource.attributes["service.name"] == "gate-7"


async def test_text_is_shown_to_who_asks_for_it() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, prompt_text=True)
    settled(traces)
    span = (await told(exporter, traces))["chat large-id"]
    shown = orjson.loads(str(dict(span.attributes or {})["gen_ai.input.messages"]))
    parts = [{"type": "text", "content": "a secret of the user's"}]
    assert shown == [{"role": "user", "parts": parts}]


async def test_what_waits_for_the_collector_is_bounded() -> None:
    """A prompt may be of megabytes, and thousands wait while a collector is away."""
    traces = Traces(InMemorySpanExporter(), prompt_text=True)
    said = [{"type": "text", "text": "x" * 90_000}] * 10
    messages = [{"role": "user", "content": said} for _ in range(1_000)]
    messages += [{"role": "user", "content": "the last one"}]
    trace = traces.begin(None, asked(messages=messages))
    assert trace.messages is not None
    assert len(trace.messages) < 120_000
    last, *before = reversed(orjson.loads(trace.messages))
    assert last["parts"][0]["content"] == "the last one"
    assert all(sum(len(part["content"]) for part in one["parts"]) <= 10_000 for one in before)
    await traces.close()


class Away(SpanExporter):
    """A collector that can't be reached, until it can."""

    def __init__(self) -> None:
        self.away = True
        self.asked = Semaphore(0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.release()
        return SpanExportResult.FAILURE if self.away else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""


async def test_a_collector_that_is_away_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    exporter = Away()
    traces = Traces(exporter)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            settled(traces)
            assert exporter.asked.acquire(timeout=5)
        exporter.away = False
        settled(traces)
        assert exporter.asked.acquire(timeout=5)
        await traces.close()
    assert [record.message for record in caplog.records] == [
        "traces can't be sent: the collector is away or refuses them",
        "traces are sent again",
    ]


async def test_a_trace_is_not_written_into_the_ledger() -> None:
    traces = Traces(InMemorySpanExporter(), prompt_text=True)
    record = Record("req_1", started=10.0, received=10.5)
    record.trace = trace = traces.begin(None, asked())
    told = entry(line(record).rstrip(b"\n"))
    assert told is not None
    assert told["trace"] is None
    assert record.trace is trace
    await traces.close()
