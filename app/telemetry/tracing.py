"""OpenTelemetry traces: a server span a request, with the decision and each attempt under it.

A request costs its ids at the beginning and a place in a queue at the end. Everything else is done
in the batch processor's thread: spans are made of the settled record, which has all the times, and
sent over OTLP/HTTP. Made as the SDK's `ReadableSpan`: its tracer takes four times as long, and
could not be told the ids that upstreams have been sent. A collector that is away is told of once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from os import environ
from typing import cast

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import __version__
from app.exchange.record import Record
from app.exchange.request import Request
from app.exchange.trace import Trace
from app.telemetry.logs import log
from app.telemetry.spans import NAME, Settled, asked_of, context_of, spans, text_of

_QUEUE_REQUESTS = 8_192
"""Settled requests that may wait for the collector; some 5 KB each."""
_QUEUE_TEXTS = 1_024
"""Where they have the text of prompts: up to 100 KB more each."""
_BATCH_REQUESTS = 128
_CLOSE_SECONDS = 3.0


def disabled() -> bool:
    """Whether the environment switches OpenTelemetry off."""
    return environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true"


class Traces:
    """Every trace of the gateway. Belongs to one event loop."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        sample_share: float | None = None,
        propagates: bool = True,
        prompt_text: bool = False,
    ) -> None:
        """`sample_share` left out is what the environment says, else all."""
        # The SDK tells of each export that fails; once is enough.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        sampler: Sampler | None = None
        if sample_share is not None:
            sampler = ParentBased(TraceIdRatioBased(sample_share))
        provider = TracerProvider(sampler, _resource(), shutdown_on_exit=False)
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self._propagates = propagates
        self._prompt_text = prompt_text
        building = _Building(exporter, provider.resource)
        queue = _QUEUE_TEXTS if prompt_text else _QUEUE_REQUESTS
        # Both count requests here, of some four spans each.
        self._processor = BatchSpanProcessor(
            building,
            None if OTEL_BSP_MAX_QUEUE_SIZE in environ else queue,
            max_export_batch_size=(
                None if OTEL_BSP_MAX_EXPORT_BATCH_SIZE in environ else _BATCH_REQUESTS
            ),
        )

    def begin(self, traceparent: str | None, request: Request | None = None) -> Trace:
        """A request's place in its client's trace, or in a new one. What is refused unread has no
        `request`."""
        parent = Context()
        client: SpanContext | None = None
        if traceparent is not None:
            parent = _PROPAGATOR.extract({"traceparent": traceparent}, parent)
            found = otel.get_current_span(parent).get_span_context()
            client = found if found.is_valid else None
        trace_id = client.trace_id if client else self._ids.generate_trace_id()
        sampled = self._sampler.should_sample(parent, trace_id, NAME, SpanKind.SERVER)
        trace = Trace(
            trace_id,
            self._ids.generate_span_id(),
            client.span_id if client else None,
            sampled.decision is not Decision.DROP,
            self._propagates,
        )
        if request is not None and trace.sampled:
            trace.asked = asked_of(request)
            trace.messages = text_of(request.payload["messages"]) if self._prompt_text else None
        return trace

    def end(self, record: Record) -> None:
        """Hand over a settled request."""
        trace = record.trace
        if trace is not None and trace.sampled:
            settled = Settled(context_of(trace), record, trace)
            # It asks only for `context`, and passes on to the exporter what it was given.
            self._processor.on_end(cast("ReadableSpan", settled))

    async def close(self) -> None:
        """Send what is left, if that is quick."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # Not the loop's executor, which the end of the process would wait for.
        threading.Thread(target=shut_down, daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await done.wait()
        except TimeoutError:
            log.warning("the last traces are lost: the collector is slow or away")


_PROPAGATOR = TraceContextTextMapPropagator()


class _Building(SpanExporter):
    """Makes spans of settled requests and gives them to the exporter proper."""

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self._exporter = exporter
        self._resource = resource
        self._away = False

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        made = [
            span
            for settled in cast("Sequence[Settled]", batch)
            for span in spans(settled, self._resource)
        ]
        result = self._exporter.export(made)
        if result is SpanExportResult.FAILURE and not self._away:
            log.warning("traces can't be sent: the collector is away or refuses them")
        elif result is SpanExportResult.SUCCESS and self._away:
            log.warning("traces are sent again")
        self._away = result is SpanExportResult.FAILURE
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _resource() -> Resource:
    """What the environment says of this service, with a name of ours where it gives none."""
    known = Resource.create({SERVICE_VERSION: __version__})
    if str(known.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        known = known.merge(Resource({SERVICE_NAME: "pointsman"}))
    return known
