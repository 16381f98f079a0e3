"""What a process keeps whatever configuration serves, and the pipeline that a configuration gets
over it. Concrete classes are picked here and in `app.assembly`, nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from app import taken
from app.accounting.keyring import Keyring
from app.accounting.ledger import Ledger
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.place import Place
from app.accounting.refusal import Scope
from app.accounting.resume import take_up
from app.accounting.settlement import Settlement
from app.api.serving import Active
from app.compiling import Compiled, worker_count
from app.config import schema
from app.config.load import Loaded
from app.delivery import terms
from app.delivery.cache.answers import AnswerCache
from app.delivery.cache.memory import Memory
from app.delivery.cache.nearest import Nearest
from app.delivery.cache.shared import SharedAnswers
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain
from app.delivery.gate import Gate
from app.delivery.sharing import Sharing
from app.delivery.upstreams.base import Upstream
from app.delivery.upstreams.http import HTTPClient, HTTPUpstream
from app.errors import ConfigError
from app.exchange.record import Record
from app.pipeline import Pipeline
from app.routing.conversation.sessions import Sessions
from app.routing.decider import Decider
from app.routing.encoder.embedder import Embedder
from app.state.base import State
from app.state.memory import MemoryState
from app.telemetry.logs import request_line
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.state.shared import SharedState
    from app.telemetry.tracing import Traces

SIMULATED_VARIABLE = "POINTSMAN_SIMULATED_"
"""Plus an upstream's name: where the process that serves it has been started."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What lives as long as the process, whatever configuration serves. What is to outlive a reload
    is made here and handed to each pipeline."""

    metrics: Metrics
    client: HTTPClient
    state: MemoryState | SharedState
    ledger: Ledger | None
    keyring: Keyring
    traces: Traces | None
    observers: tuple[Callable[[Record], None], ...]
    deployments: Deployments
    shares: Shares
    gate: Gate
    drain: Drain
    keeps_keys: bool
    """Whether there is a database of keys."""

    @classmethod
    def of(cls, loaded: Loaded, compiled: Compiled, *, keeps_keys: bool, access_log: bool) -> Parts:
        metrics = Metrics()
        state, shares = _state(compiled.config, metrics)
        traces = _traces(compiled.config.tracing)
        return cls(
            metrics=metrics,
            client=HTTPClient(),
            state=state,
            ledger=_ledger(loaded, metrics),
            keyring=compiled.keyring,
            traces=traces,
            observers=(
                *([traces.end] if traces is not None else []),
                *([request_line] if access_log else []),
            ),
            deployments=Deployments(),
            shares=shares,
            gate=Gate(metrics=metrics),
            drain=Drain(),
            keeps_keys=keeps_keys,
        )

    def first(self, loaded: Loaded, compiled: Compiled, version: int) -> Active:
        """The configuration that the process starts with."""
        self._configure(compiled)
        return _active(loaded, compiled, self._pipeline(compiled, None), version)

    async def next(self, loaded: Loaded, compiled: Compiled, former: Active) -> Active:
        """One that takes the place of another. Raises ConfigError, with nothing changed."""
        if self.keeps_keys and compiled.keyring.hasher.mark != self.keyring.hasher.mark:
            told = "the key secret is another one, which needs a restart"
            raise ConfigError([loaded.document.problem(("keys",), told)])
        pipeline = self._pipeline(compiled, former)
        await take_up(pipeline.limits, former.pipeline.limits, self.ledger)
        version = former.version + 1
        taken.keep(version, loaded.document.source)  # may fail: the disk may be full
        # From here on in one step: what is handed over must not change meanwhile.
        pipeline.names.succeed(former.pipeline.names)
        if pipeline.cache is not None and former.pipeline.cache is not None:
            pipeline.cache.succeed(former.pipeline.cache)
        self.keyring.adopt(compiled.keyring)
        self._configure(compiled)
        return _active(loaded, compiled, pipeline, version)

    def _configure(self, compiled: Compiled) -> None:
        """What a configuration says of what lives longer than it."""
        config, server = compiled.config, compiled.config.server
        self.drain.delay_seconds = server.drain.delay_seconds
        self.drain.timeout_seconds = server.drain.timeout_seconds
        self.gate.configure(
            server.max_concurrent_requests,
            queue=server.queue_requests,
            queue_bytes=server.queue_bytes,
            seconds=server.queue_seconds,
        )
        # Each process has its part of the deployments' limits.
        replicas = config.redis.replicas if config.redis is not None else 1
        policies = {name: terms.of_upstream(written) for name, written in config.upstreams.items()}
        share = worker_count(config) * replicas
        self.deployments.configure(compiled.models.values(), policies, self.metrics, share)
        if self.ledger is not None and config.ledger is not None:
            self.ledger.retention_days = config.ledger.retention_days
            self.ledger.keep_prompt_text = config.ledger.keep_prompt_text
            self.ledger.keep_embeddings = config.ledger.keep_embeddings

    def _pipeline(self, compiled: Compiled, former: Active | None) -> Pipeline:
        limits = _limiter(compiled, self.state, self.metrics)
        embedder = embedder_of(compiled, self.metrics, former)
        return Pipeline(
            names=compiled.names,
            upstreams=_upstreams(compiled.config, self.client, former),
            decider=Decider(embedder, self.metrics),
            limits=limits,
            settlement=Settlement(
                compiled.models, self.metrics, limits, self.ledger, self.traces, self.observers
            ),
            metrics=self.metrics,
            ledger=self.ledger,
            deployments=self.deployments,
            cache=_cache(compiled, embedder, self.state, self.metrics),
            sessions=_sessions(compiled, self.state, former),
            comment_seconds=compiled.config.server.keep_alive_comment_seconds,
            drain=self.drain,
        )


def _active(loaded: Loaded, compiled: Compiled, pipeline: Pipeline, version: int) -> Active:
    document = loaded.document
    return Active(pipeline, compiled.config, document.file, document.digest, version, time())


def _limiter(compiled: Compiled, state: State, metrics: Metrics) -> Limiter:
    own: dict[tuple[Scope, str], Limits] = {}
    config = compiled.config
    if config.limits is not None:
        own["gateway", ""] = Limits.compile(config.limits)
    for name, route in config.routes.items():
        if route.limits is not None:
            own["route", name] = Limits.compile(route.limits)
    for name, tag in config.tags.items():
        own["tag", name] = Limits.compile(tag.limits)
    for key in config.keys:
        # They come with the caller; here they tell which budgets there are.
        if key.limits is not None:
            own["key", key.id] = Limits.compile(key.limits)
    return Limiter(state, own, compiled.models.values(), metrics)


Shares = Callable[[Deployments], AbstractAsyncContextManager[None]]
"""Runs what tells other gateways of deployments that are to be left alone."""


def _state(config: schema.Config, metrics: Metrics) -> tuple[MemoryState | SharedState, Shares]:
    """The counters of limits, and what else goes over the same Redis."""
    workers = worker_count(config)
    if config.redis is None:
        return MemoryState(share=workers), lambda deployments: nullcontext()
    # Who has no Redis need not load its client.
    from app.state.notices import RedisBoard
    from app.state.redis import RedisCounters
    from app.state.shared import SharedState

    written = config.redis
    counters = RedisCounters(
        written.url.get_secret_value(),
        prefix=written.prefix,
        timeout_seconds=written.timeout_ms / 1000,
        lease_seconds=written.lease_seconds,
    )
    state = SharedState(
        counters,
        least_processes=workers * written.replicas,
        lease_seconds=written.lease_seconds,
        on_away=metrics.redis_is_away,
    )
    process = f"{os.getpid()}-{os.urandom(6).hex()}"
    board = RedisBoard(counters, "deployments")
    return state, lambda deployments: Sharing(deployments, board, process).running()


def embedder_of(
    compiled: Compiled, metrics: Metrics, former: Active | None = None
) -> Embedder | None:
    if compiled.encoder is None:
        return None
    entries = compiled.config.encoder.cache_entries
    before = None if former is None else former.pipeline.decider.embedder
    if before is not None and before.serves(compiled.encoder):
        before.keep(entries)
        return before
    if former is None:
        # The first run of a graph allocates its memory; that must not fall on the first client.
        # When it is reloaded this was done where it was read, off the event loop.
        compiled.encoder.encode(["warm up"])
    return Embedder(compiled.encoder, cache_entries=entries, on_encode=metrics.encoded)


def _cache(
    compiled: Compiled,
    embedder: Embedder | None,
    state: MemoryState | SharedState,
    metrics: Metrics,
) -> AnswerCache | None:
    if not compiled.cached:
        return None
    sizes = compiled.config.cache or schema.Cache()
    semantic = any(terms.semantic for terms in compiled.cached.values())
    return AnswerCache(
        compiled.cached,
        Memory(sizes.max_entries, sizes.max_bytes),
        embedder,
        None if isinstance(state, MemoryState) else SharedAnswers(state),
        Nearest(sizes.max_entries) if semantic else None,
        on_change=metrics.cache_holds,
    )


def _traces(written: schema.Tracing | None) -> Traces | None:
    if written is None:
        return None
    # Who traces nothing need not load OpenTelemetry.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from app.telemetry.tracing import Traces, disabled

    if disabled():
        return None
    headers = {key: value.get_secret_value() for key, value in written.headers.items()}
    return Traces(
        OTLPSpanExporter(written.endpoint, headers=headers or None),
        sample_share=written.sample_share,
        propagates=written.propagate,
        prompt_text=written.prompt_text,
    )


def _sessions(
    compiled: Compiled, state: MemoryState | SharedState, former: Active | None
) -> Sessions | None:
    routes, models = compiled.names.routes.values(), compiled.models.values()
    # Who names a model stays with its deployment, whatever routes do.
    if all(one.affinity is None for one in routes) and all(len(m.deployments) < 2 for m in models):
        return None
    if former is not None and former.pipeline.sessions is not None:
        return former.pipeline.sessions
    return Sessions(None if isinstance(state, MemoryState) else state)


def _ledger(loaded: Loaded, metrics: Metrics) -> Ledger | None:
    written = loaded.config.ledger
    place = Place.compile(written, Path(loaded.document.file).parent)
    if written is None or place is None:
        return None
    return Ledger(
        place,
        metrics,
        retention_days=written.retention_days,
        keep_prompt_text=written.keep_prompt_text,
        keep_embeddings=written.keep_embeddings,
    )


def _upstreams(
    config: schema.Config, client: HTTPClient, former: Active | None
) -> dict[str, Upstream]:
    """One that is written as before is the same as before, with all that it knows of its health."""
    before = {} if former is None else former.config.upstreams
    return {
        name: former.pipeline.upstreams[name]
        if former is not None and before.get(name) == written
        else _upstream(name, written, client)
        for name, written in config.upstreams.items()
    }


def _upstream(name: str, written: schema.Upstream, client: HTTPClient) -> Upstream:
    headers: dict[str, str] = {}
    stream_usage, provider = True, None
    if isinstance(written, schema.SimulatedUpstream):
        base_url = os.environ.get(SIMULATED_VARIABLE + name, "http://127.0.0.1:9/v1")
    else:
        base_url = written.base_url
        stream_usage, provider = written.stream_usage, written.provider
        if written.api_key is not None:
            headers["Authorization"] = f"Bearer {written.api_key.get_secret_value()}"
        headers |= {key: value.get_secret_value() for key, value in written.headers.items()}
    times = terms.timeouts(written.timeouts)
    return HTTPUpstream(
        name, base_url, headers, times, client, stream_usage=stream_usage, provider=provider
    )
