"""From compiled values to a wired application: the only place that picks concrete classes."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from app.accounting.key_opening import database_url, key_hasher, may_hold_keys, open_store
from app.accounting.key_watch import KeyWatch
from app.accounting.keyring import Keyring
from app.accounting.ledger import Ledger, kept
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.place import Place
from app.accounting.refusal import Scope
from app.accounting.resume import resumed
from app.accounting.settlement import Settlement
from app.api import admin
from app.api import routes as doors
from app.api.access import Access, nothing_new
from app.compiling import Compiled, compile_config, worker_count
from app.config import schema
from app.config.load import Loaded, load
from app.dashboard import doors as dashboard
from app.dashboard.evidence import Evidence
from app.dashboard.source import Source
from app.delivery import terms
from app.delivery.cache.answers import AnswerCache
from app.delivery.cache.memory import Memory
from app.delivery.cache.nearest import Nearest
from app.delivery.cache.shared import SharedAnswers
from app.delivery.deployments import Deployments
from app.delivery.sharing import Sharing
from app.delivery.upstreams.base import Upstream
from app.delivery.upstreams.http import HTTPClient, HTTPUpstream
from app.pipeline import Pipeline
from app.routing.conversation.sessions import Sessions
from app.routing.decider import Decider
from app.routing.encoder.embedder import Embedder
from app.state.base import State
from app.state.memory import MemoryState
from app.telemetry.logs import Format, configure, log, request_line
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.state.shared import SharedState
    from app.telemetry.tracing import Traces

CONFIG_VARIABLE = "POINTSMAN_CONFIG"
LOG_VARIABLE = "POINTSMAN_LOG_LEVEL"
FORMAT_VARIABLE = "POINTSMAN_LOG_FORMAT"
ACCESS_VARIABLE = "POINTSMAN_ACCESS_LOG"
SIMULATED_VARIABLE = "POINTSMAN_SIMULATED_"
"""Plus an upstream's name: where the process that serves it has been started."""


def application(
    loaded: Loaded,
    *,
    warn: bool = True,
    access_log: bool = False,
    deployments: Deployments | None = None,
) -> FastAPI:
    """The wired gateway. Its lifespan opens and closes what it holds.

    `warn` logs what is probably not meant; of several workers their parent has done so.
    `access_log` logs a line for every request.
    `deployments` are those of the application before this one, with all that is known of them.
    """
    url = database_url(loaded)
    if url is not None:
        key_hasher(loaded)  # made now if need be: every process that serves must find the same
    compiled = compile_config(loaded)
    server = compiled.config.server
    if warn:
        log_doubts(compiled)
    metrics = Metrics()
    client = HTTPClient()
    embedder = _embedder(compiled, metrics)
    state, sharing = _state(compiled.config, metrics)
    limits = _limiter(compiled, metrics, state)
    deployments = deployments or Deployments()
    _configure(deployments, compiled, metrics)
    cache = _cache(compiled, embedder, state, metrics)
    sessions = _sessions(compiled, state)
    ledger = _ledger(loaded, metrics)
    traces = _traces(compiled.config.tracing)
    observers = (
        *([traces.end] if traces is not None else []),
        *([request_line] if access_log else []),
    )
    pipeline = Pipeline(
        names=compiled.names,
        upstreams=_upstreams(compiled.config, client),
        decider=Decider(embedder, metrics),
        limits=limits,
        settlement=Settlement(compiled.models, metrics, limits, ledger, traces, observers),
        metrics=metrics,
        ledger=ledger,
        deployments=deployments,
        cache=cache,
        sessions=sessions,
        comment_seconds=server.keep_alive_comment_seconds,
    )

    watch = None if url is None else _watch(compiled.keyring, url)
    read_keys = watch.refresh if watch else nothing_new
    access = Access(compiled.keyring, read_keys)
    shown = Source(None if ledger is None else ledger.place.url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        # What was built until now lives as long as the process: the collector need not look again.
        gc.collect()
        gc.freeze()
        await limits.state.open()
        async with (
            kept(ledger),
            shown.running(),
            watch.running() if watch else nullcontext(),
            resumed(limits, ledger, compiled.keyring, read_keys),
            client,
            sharing(deployments),
        ):
            yield {"header_timeout_seconds": server.header_timeout_seconds}
        if cache is not None:
            await cache.close()
        if sessions is not None:
            await sessions.close()
        await limits.state.close()
        if embedder is not None:
            embedder.close()
        if traces is not None:
            await traces.close()
        metrics.close()

    app = doors.application(pipeline, server, access, lifespan)
    app.access_log = access_log
    app.include_router(admin.doors(access, watch, compiled.config.keys, compiled.names))
    evidence = Evidence(
        compiled.names,
        pipeline.decider,
        keeps_text=ledger is not None and ledger.keep_prompt_text,
        keeps_embeddings=ledger is not None and ledger.keep_embeddings,
    )
    app.include_router(dashboard.doors(shown, access.dashboard, evidence))
    return app


def log_doubts(compiled: Compiled) -> None:
    for warning in compiled.warnings:
        log.warning("%s", warning)


def _watch(keyring: Keyring, url: str) -> KeyWatch:
    if may_hold_keys(url):
        keyring.awaits = True
    return KeyWatch(keyring, lambda: open_store(url, keyring.hasher, serves=True))


def offline_pipeline(compiled: Compiled) -> Pipeline:
    """A pipeline that can decide and explain, with no upstream behind it."""
    metrics = Metrics()
    limits = Limiter(MemoryState(), {}, (), metrics)
    decider = Decider(_embedder(compiled, metrics), metrics)
    settlement = Settlement(compiled.models, metrics, limits)
    return Pipeline(compiled.names, {}, decider, limits, settlement, metrics)


def application_from_environment() -> FastAPI:
    """For uvicorn's workers, each of which builds its own, in a process that has no log yet."""
    environment = os.environ
    format_: Format = "json" if environment.get(FORMAT_VARIABLE) == "json" else "text"
    configure(environment.get(LOG_VARIABLE, "INFO"), format_)
    access_log = environment.get(ACCESS_VARIABLE) == "1"
    loaded = load(Path(environment[CONFIG_VARIABLE]))
    return application(loaded, warn=False, access_log=access_log)


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


def _limiter(compiled: Compiled, metrics: Metrics, state: State) -> Limiter:
    own: dict[tuple[Scope, str], Limits] = {}
    config = compiled.config
    if config.limits is not None:
        own["gateway", ""] = Limits.compile(config.limits)
    for name, route in config.routes.items():
        if route.limits is not None:
            own["route", name] = Limits.compile(route.limits)
    for name, tag in config.tags.items():
        own["tag", name] = Limits.compile(tag.limits)
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


def _configure(deployments: Deployments, compiled: Compiled, metrics: Metrics) -> None:
    """What the configuration says of deployments. Each process has its part of their limits."""
    config = compiled.config
    replicas = config.redis.replicas if config.redis is not None else 1
    policies = {name: terms.of_upstream(written) for name, written in config.upstreams.items()}
    share = worker_count(config) * replicas
    deployments.configure(compiled.models.values(), policies, metrics, share)


def _embedder(compiled: Compiled, metrics: Metrics) -> Embedder | None:
    if compiled.encoder is None:
        return None
    # The first run of a graph allocates its memory; that must not fall on the first client.
    compiled.encoder.encode(["warm up"])
    return Embedder(
        compiled.encoder,
        cache_entries=compiled.config.encoder.cache_entries,
        on_encode=metrics.encoded,
    )


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


def _sessions(compiled: Compiled, state: MemoryState | SharedState) -> Sessions | None:
    if all(route.affinity is None for route in compiled.names.routes.values()):
        return None
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


def _upstreams(config: schema.Config, client: HTTPClient) -> dict[str, Upstream]:
    return {name: _upstream(name, entry, client) for name, entry in config.upstreams.items()}


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
