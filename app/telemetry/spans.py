"""The spans of a settled request, by OpenTelemetry's conventions for HTTP and generative AI.

Tokens are on the attempts' spans alone, which are the calls to models: counted on the request's as
well, every sum over spans would be twice too high. What the conventions have no name for is
`pointsman.*`. docs/tracing.md lists all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from app import __version__
from app.exchange.money import NANO_PER_DOLLAR
from app.exchange.record import HEDGED_AWAY, Record
from app.exchange.request import Request
from app.exchange.trace import Call, Trace
from app.exchange.usage import Usage
from app.telemetry.logs import CHAT_PATH

NAME = f"POST {CHAT_PATH}"
_SCOPE = InstrumentationScope("pointsman", __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_WELL = frozenset({"ok", "client_gone", "cancelled", HEDGED_AWAY})
"""Outcomes that are nobody's fault."""
_ASKED = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}
_TEXT_CHARACTERS = 10_000
"""Of one message; collectors refuse what is too large as a whole."""
_REQUEST_CHARACTERS = 100_000
"""Of all of them: what waits for a collector takes memory."""
_OF_PART = 50
"""Characters of a part beside its text."""

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """A request that waits to be made spans of; its context is that of its own span."""

    context: SpanContext
    record: Record
    trace: Trace


def asked_of(request: Request) -> Attributes:
    """The parameters of a request. Copied: its body may be large, and waits for nobody."""
    told = {
        f"gen_ai.request.{name}": value
        for key, name in _ASKED.items()
        if isinstance(value := request.payload.get(key), int | float)
    }
    return {
        "pointsman.request.model": request.model[:200],
        "gen_ai.request.stream": request.stream,
        **told,
    }


def context_of(trace: Trace) -> SpanContext:
    """Of the request's own span."""
    return _context(trace.trace_id, trace.span_id)


def spans(settled: Settled, resource: Resource) -> Iterator[ReadableSpan]:
    """The request's own span, its decision's, and one an attempt."""
    record, trace, own = settled.record, settled.trace, settled.context
    ended = record.started + record.duration_seconds
    # The wall clock was read once, when the record was made, which is when the body was whole.
    origin = record.at - record.received

    def made(
        name: str,
        kind: SpanKind,
        span_id: int,
        times: tuple[float, float],
        attributes: Attributes,
        *,
        failed: bool,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            own if span_id == own.span_id else _context(trace.trace_id, span_id),
            _parent(trace) if span_id == own.span_id else own,
            resource,
            {key: value for key, value in attributes.items() if value is not None},
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=round((origin + times[0]) * 1e9),
            end_time=round((origin + times[1]) * 1e9),
            instrumentation_scope=_SCOPE,
        )

    failed = record.status >= 500 or (record.status == 200 and record.outcome not in _WELL)
    yield made(
        NAME, SpanKind.SERVER, own.span_id, (record.started, ended),
        _of_request(record, trace), failed=failed,
    )  # fmt: skip
    if record.decide_seconds:
        times = (record.received, record.received + record.decide_seconds)
        # Told to nobody, so any id does that is no other's.
        span_id = own.span_id ^ 1 or 2
        yield made("decide", SpanKind.INTERNAL, span_id, times, _of_decision(record), failed=False)
    for call in trace.calls:
        streams = call.attempt is record.served and record.first_token_seconds is not None
        until = ended if streams else call.began + call.attempt.seconds
        yield made(
            f"chat {call.model_id}", SpanKind.CLIENT, call.span_id, (call.began, until),
            _of_call(call, record, trace, streams=streams),
            failed=call.attempt.outcome not in _WELL,
        )  # fmt: skip


def _context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_flags=_SAMPLED)


def _parent(trace: Trace) -> SpanContext | None:
    if trace.parent_id is None:
        return None
    return _context(trace.trace_id, trace.parent_id, is_remote=True)


def _of_request(record: Record, trace: Trace) -> Attributes:
    return {
        "http.request.method": "POST",
        "http.route": CHAT_PATH,
        "url.path": CHAT_PATH,
        "http.response.status_code": record.status,
        "error.type": None if record.outcome in _WELL else _error(record),
        "pointsman.request.id": record.request_id,
        "pointsman.request.model": trace.asked.get("pointsman.request.model"),
        "pointsman.route": record.route,
        "pointsman.model": record.model,
        "pointsman.upstream": record.upstream,
        "pointsman.decision": record.decision,
        "pointsman.reason": record.reason,
        "pointsman.outcome": record.outcome,
        "pointsman.attempts": len(record.attempts),
        "pointsman.cost_usd": _dollars(record.cost),
        "pointsman.cost_estimated": record.cost_estimated or None,
        "pointsman.baseline_cost_usd": _dollars(record.baseline_cost),
        "pointsman.saved_usd": _dollars(record.saved),
        "pointsman.overhead_seconds": record.overhead_seconds,
        "pointsman.time_to_first_token_seconds": record.first_token_seconds,
    }


def _of_decision(record: Record) -> Attributes:
    told = record.predictions
    return {
        "pointsman.route": record.route,
        "pointsman.decision": record.decision,
        "pointsman.reason": record.reason,
        "pointsman.speed": record.speed,
        "pointsman.candidates": tuple(one.model for one in told) or None,
        "pointsman.candidates.quality": tuple(float(one.quality) for one in told) or None,
    }


def _of_call(call: Call, record: Record, trace: Trace, *, streams: bool) -> Attributes:
    attempt = call.attempt
    first = None
    if streams and record.first_token_seconds is not None:
        first = record.received + record.first_token_seconds - call.began
    requested = {key: value for key, value in trace.asked.items() if key.startswith("gen_ai.")}
    return {
        "gen_ai.operation.name": "chat",
        **call.place,
        **requested,
        "gen_ai.request.model": call.model_id,
        "gen_ai.response.time_to_first_chunk": first,
        **(_tokens(attempt.usage) if attempt.usage and not attempt.estimated else {}),
        "gen_ai.input.messages": trace.messages,
        "http.response.status_code": attempt.status,
        "error.type": None if attempt.outcome in _WELL else attempt.outcome,
        "pointsman.model": attempt.model,
        "pointsman.upstream": attempt.upstream,
        "pointsman.outcome": attempt.outcome,
        "pointsman.cost_usd": _dollars(attempt.cost),
        "pointsman.cost_estimated": attempt.estimated or None,
    }


def _tokens(usage: Usage) -> Mapping[str, int | None]:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
    }


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages in the conventions' form: roles with their parts, of which only text is shown. Of
    many the last ones. Made at once: a body may be large, and waits for nobody."""
    told: list[Attributes] = []
    left = _REQUEST_CHARACTERS
    for message in reversed(messages):
        parts = list(_parts(message.get("content")))
        left -= sum(len(part.get("content", "")) + _OF_PART for part in parts) + _OF_PART
        if left < 0:
            break
        told.append({"role": message["role"][:_OF_PART], "parts": parts})
    return orjson.dumps(told[::-1]).decode()


def _parts(content: Any) -> Iterator[dict[str, str]]:
    left = _TEXT_CHARACTERS
    for part in content if isinstance(content, list) else [content]:
        if left <= 0:
            return
        if isinstance(part, str):
            yield {"type": "text", "content": part[:left]}
        elif isinstance(part, dict):
            kind, text = str(part.get("type"))[:_OF_PART], part.get("text")
            told = {"content": text[:left]} if isinstance(text, str) else {}
            left -= len(told.get("content", "")) + _OF_PART
            yield {"type": kind, **told}


def _error(record: Record) -> str:
    """The last attempt's outcome where it was that, else the status: both closed vocabularies."""
    if record.outcome != "error":
        return record.outcome
    failed = record.attempts[-1].outcome if record.attempts else "ok"
    return str(record.status) if failed in _WELL else failed


def _dollars(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO_PER_DOLLAR
