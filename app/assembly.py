"""From compiled values to a wired application: the only place that picks concrete classes."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

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
from app.api import admin
from app.api import routes as doors
from app.api.access import Access, nothing_new
from app.compiling import Compiled, compile_config, worker_count
from app.config import schema
from app.config.load import Loaded, load
from app.dashboard import doors as dashboard
from app.dashboard.source import Source
from app.delivery.drain import Drain
from app.delivery.upstreams.base import Timeouts, Upstream
from app.delivery.upstreams.http import HTTPClient, HTTPUpstream
from app.pipeline import Pipeline
from app.routing.encoder.embedder import Embedder
from app.state.base import State
from app.state.memory import MemoryState
from app.telemetry.logs import configure, log
from app.telemetry.metrics import Metrics

CONFIG_VARIABLE = "POINTSMAN_CONFIG"
LOG_VARIABLE = "POINTSMAN_LOG_LEVEL"
SIMULATED_VARIABLE = "POINTSMAN_SIMULATED_"
"""Plus an upstream's name: where the process that serves it has been started."""


def application(loaded: Loaded, *, warn: bool = True) -> FastAPI:
    """The wired gateway. Its lifespan opens and closes what it holds.

    `warn` logs what is probably not meant; of several workers their parent has done so.
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
    limits = _limiter(compiled, metrics)
    pipeline = Pipeline(
        names=compiled.names,
        upstreams=_upstreams(compiled.config, client),
        embedder=embedder,
        metrics=metrics,
        ledger=(ledger := _ledger(loaded, metrics)),
        limits=limits,
        drain=(drain := _drain(server)),
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
        ):
            yield {"header_timeout_seconds": server.header_timeout_seconds, "drain": drain}
        await limits.state.close()
        if embedder is not None:
            embedder.close()
        metrics.close()

    app = doors.application(pipeline, server, access, lifespan)
    app.include_router(admin.doors(access, watch, compiled.config.keys, compiled.names))
    keeps_text = ledger is not None and ledger.keep_prompt_text
    app.include_router(dashboard.doors(shown, access.dashboard, shows_prompts=keeps_text))
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
    return Pipeline(compiled.names, {}, _embedder(compiled, metrics), metrics, limits)


def application_from_environment() -> FastAPI:
    """For uvicorn's workers, each of which builds its own, in a process that has no log yet."""
    configure(os.environ.get(LOG_VARIABLE, "INFO"))
    return application(load(Path(os.environ[CONFIG_VARIABLE])), warn=False)


def _drain(server: schema.Server) -> Drain:
    return Drain(server.drain.delay_seconds, server.drain.timeout_seconds)


def _limiter(compiled: Compiled, metrics: Metrics) -> Limiter:
    own: dict[tuple[Scope, str], Limits] = {}
    config = compiled.config
    if config.limits is not None:
        own["gateway", ""] = Limits.compile(config.limits)
    for name, route in config.routes.items():
        if route.limits is not None:
            own["route", name] = Limits.compile(route.limits)
    for name, tag in config.tags.items():
        own["tag", name] = Limits.compile(tag.limits)
    return Limiter(_state(config, metrics), own, compiled.models.values(), metrics)


def _state(config: schema.Config, metrics: Metrics) -> State:
    workers = worker_count(config)
    if config.redis is None:
        return MemoryState(share=workers)
    # Who has no Redis need not load its client.
    from app.state.redis import RedisCounters
    from app.state.shared import SharedState

    written = config.redis
    counters = RedisCounters(
        written.url.get_secret_value(),
        prefix=written.prefix,
        timeout_seconds=written.timeout_ms / 1000,
        lease_seconds=written.lease_seconds,
    )
    return SharedState(
        counters,
        least_processes=workers * written.replicas,
        lease_seconds=written.lease_seconds,
        on_away=metrics.redis_is_away,
    )


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
    times = written.timeouts
    timeouts = Timeouts(
        connect=times.connect_seconds,
        first_byte=times.first_byte_seconds,
        idle=times.idle_seconds,
        total=times.total_seconds,
    )
    headers: dict[str, str] = {}
    stream_usage = True
    if isinstance(written, schema.SimulatedUpstream):
        base_url = os.environ.get(SIMULATED_VARIABLE + name, "http://127.0.0.1:9/v1")
    else:
        base_url = written.base_url
        stream_usage = written.stream_usage
        if written.api_key is not None:
            headers["Authorization"] = f"Bearer {written.api_key.get_secret_value()}"
        headers |= {key: value.get_secret_value() for key, value in written.headers.items()}
    return HTTPUpstream(name, base_url, headers, timeouts, client, stream_usage=stream_usage)
