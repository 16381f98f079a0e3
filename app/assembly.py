"""From compiled values to a wired application."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from multiprocessing import parent_process
from typing import Any

from fastapi import FastAPI

from app import taken
from app.accounting.key_opening import database_url, key_hasher, may_hold_keys, open_store
from app.accounting.key_watch import KeyWatch
from app.accounting.keyring import Keyring
from app.accounting.ledger import kept
from app.accounting.limiter import Limiter
from app.accounting.resume import resumed
from app.accounting.settlement import Settlement
from app.api import admin, configuration
from app.api import routes as doors
from app.api.access import Access, nothing_new
from app.api.serving import Serving
from app.compiling import Compiled, compile_config
from app.config.load import Loaded, load_copy
from app.dashboard import doors as dashboard
from app.dashboard.evidence import Evidence
from app.dashboard.source import Source
from app.parts import Parts, embedder_of
from app.pipeline import Pipeline
from app.reloading import Reloader
from app.routing.decider import Decider
from app.state.memory import MemoryState
from app.telemetry.logs import Format, configure, log
from app.telemetry.metrics import Metrics

CONFIG_VARIABLE = "POINTSMAN_CONFIG"
LOG_VARIABLE = "POINTSMAN_LOG_LEVEL"
FORMAT_VARIABLE = "POINTSMAN_LOG_FORMAT"
ACCESS_VARIABLE = "POINTSMAN_ACCESS_LOG"
_COLLECT_AT = (20_000, 20, 20)
"""Objects made, or rounds of the generation before, until rings among them are looked for."""


def application(
    loaded: Loaded, *, version: int = 1, warn: bool = True, access_log: bool = False
) -> FastAPI:
    """The wired gateway. Its lifespan opens and closes what it holds.

    `warn` logs what is probably not meant; of several workers their parent has done so.
    `access_log` logs a line for every request.
    """
    url = database_url(loaded)
    if url is not None:
        key_hasher(loaded)  # made now if need be: every process that serves must find the same
    compiled = compile_config(loaded)
    if warn:
        log_doubts(compiled)
    parts = Parts.of(loaded, compiled, keeps_keys=url is not None, access_log=access_log)
    metrics, ledger, keyring = parts.metrics, parts.ledger, parts.keyring
    serving = Serving(parts.first(loaded, compiled, version))
    reloader = Reloader(serving, compiled.opened, parts.next, metrics)

    watch = None if url is None else _watch(keyring, url)
    read_keys = watch.refresh if watch else nothing_new
    access = Access(keyring, read_keys)
    shown = Source(None if ledger is None else ledger.place.url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        # What was built until now lives as long as the process: the collector need not look again.
        gc.collect()
        gc.freeze()
        # Of what requests make nearly all is gone by its count of references, and looking for rings
        # in the rest as often as Python does takes a tenth of a request's time.
        gc.set_threshold(*_COLLECT_AT)
        await parts.state.open()
        async with (
            kept(ledger),
            shown.running(),
            watch.running() if watch else nullcontext(),
            resumed(serving.pipeline.limits, ledger, keyring, read_keys),
            parts.client,
            parts.shares(parts.deployments),
            reloader.running(),
        ):
            yield {"serving": serving, "drain": parts.drain, "reload": reloader.request}
        pipeline = serving.pipeline
        if pipeline.cache is not None:
            await pipeline.cache.close()
        if pipeline.sessions is not None:
            await pipeline.sessions.close()
        await parts.state.close()
        if (embedder := pipeline.decider.embedder) is not None:
            embedder.close()
        if parts.traces is not None:
            await parts.traces.close()
        metrics.close()

    async def reload() -> dict[str, Any]:
        done = await reloader.reload()
        _tell_other_workers()
        return {"changed": done.changed, "warnings": [str(one) for one in done.warnings]}

    def evidence() -> Evidence:
        return Evidence(
            serving.pipeline.names,
            serving.pipeline.decider,
            keeps_text=ledger is not None and ledger.keep_prompt_text,
            keeps_embeddings=ledger is not None and ledger.keep_embeddings,
        )

    app = doors.application(serving, access, parts.gate, lifespan)
    app.access_log = access_log
    app.include_router(admin.doors(access, watch, serving))
    app.include_router(configuration.doors(access, serving, reload))
    app.include_router(
        dashboard.doors(shown, access.dashboard, evidence, serving.pipeline.deployments)
    )
    return app


def _tell_other_workers() -> None:
    """The parent of several passes it on to all of them, this one included: it has the file."""
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        os.kill(parent.pid, signal.SIGHUP)


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
    decider = Decider(embedder_of(compiled, metrics), metrics)
    settlement = Settlement(compiled.models, metrics, limits)
    return Pipeline(compiled.names, {}, decider, limits, settlement, metrics)


def application_from_environment() -> FastAPI:
    """For uvicorn's workers, each of which builds its own, in a process that has no log yet."""
    environment = os.environ
    format_: Format = "json" if environment.get(FORMAT_VARIABLE) == "json" else "text"
    configure(environment.get(LOG_VARIABLE, "INFO"), format_)
    access_log = environment.get(ACCESS_VARIABLE) == "1"
    version, source = taken.kept()
    loaded = load_copy(source, environment[CONFIG_VARIABLE])
    return application(loaded, version=version, warn=False, access_log=access_log)
