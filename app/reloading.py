"""Reading the configuration again while requests are served.

The new one is read and compiled in a thread, with everything that has not changed taken from the
one before; then its pipeline takes the place of the old one between two requests. What a gateway
remembers (limits' counts, paces, keys, the ledger, connections) is not made anew but handed on. A
file that is wrong changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time

from app.api.serving import Active, Serving
from app.compiling import Compiled, compile_config
from app.config import schema
from app.config.load import Loaded, load
from app.errors import ConfigError, ConfigRefused, Problem
from app.opened import Opened
from app.telemetry.logs import log
from app.telemetry.metrics import Metrics

LOOK_SECONDS = 1.0

Build = Callable[[Loaded, Compiled, Active], Awaitable[Active]]
"""Makes the next one from a compiled configuration and the active one. Raises ConfigError."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload that was not refused."""

    active: Active
    changed: bool
    warnings: tuple[Problem, ...]


class Reloader:
    """Reloads one process's configuration, once at a time."""

    def __init__(self, serving: Serving, opened: Opened, build: Build, metrics: Metrics) -> None:
        """`opened` is what the active configuration has opened."""
        self._serving = serving
        self._opened = opened
        self._build = build
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        active = serving.active
        metrics.config_taken(active.digest, time())

    async def reload(self) -> Reloaded:
        """Take the file as it is now. Raises ConfigRefused, with what `check` would say."""
        async with self._turn:
            former = self._serving.active
            try:
                loaded, compiled = await asyncio.to_thread(self._read, former)
                same = loaded.document.digest == former.digest and not compiled.opened.has_new
                active = former if same else await self._build(loaded, compiled, former)
            except BaseException as error:
                self._metrics.config_refused()
                if not isinstance(error, ConfigError):
                    raise
                log.error("the configuration is not reloaded, the one before goes on:\n%s", error)
                raise ConfigRefused(str(error), param=error.problems[0].path or None) from None
            self._serving.active, self._opened = active, compiled.opened
            self._metrics.config_taken(active.digest, time(), former.digest)
            if not same:
                for warning in compiled.warnings:
                    log.warning("%s", warning)
                log.info("configuration %s: version %d", active.digest[:12], active.version)
            return Reloaded(active, not same, compiled.warnings)

    def _read(self, former: Active) -> tuple[Loaded, Compiled]:
        loaded = load(Path(former.file))
        if problems := [*needs_restart(former.config, loaded)]:
            raise ConfigError(problems)
        compiled = compile_config(loaded, self._opened)
        if compiled.encoder is not None and compiled.opened.has_new:
            compiled.encoder.encode(["warm up"])  # its first run takes long
        return loaded, compiled

    def request(self) -> None:
        """Reload in the background; what comes of it is logged."""
        task = asyncio.get_running_loop().create_task(self._requested())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _requested(self) -> None:
        with suppress(ConfigRefused):
            try:
                await self.reload()
            except ConfigRefused:
                raise
            except Exception as error:  # noqa: BLE001 - a bug; the configuration before goes on
                log.exception("the configuration was not reloaded", exc_info=error)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the file, as long as the configuration wants that."""
        watching = asyncio.get_running_loop().create_task(self._watch())
        if await self._has_changed():
            self.request()  # since it was read, or this is a worker that came later
        try:
            yield
        finally:
            tasks = [watching, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """By looking once a second. A notification by the system would be missed where the file
        is mounted alone into a container, lies on a network, or is swapped by a link above it."""
        tried = known = before = None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            active = self._serving.active
            if not active.config.server.watch_config:
                continue
            before, state = known, await asyncio.to_thread(_state, Path(active.file))
            known = state
            # Twice the same: whoever writes it has ended.
            if state is None or state != before or state == tried:
                continue
            tried = state
            if await self._has_changed():
                await self._requested()

    async def _has_changed(self) -> bool:
        active = self._serving.active
        digest = await asyncio.to_thread(_digest, Path(active.file))
        return digest is not None and digest != active.digest


def needs_restart(former: schema.Config, loaded: Loaded) -> Iterator[Problem]:
    """What is written otherwise than before and can't be otherwise in a process that serves."""
    config, problem = loaded.config, loaded.document.problem
    told = "can't change without a restart"
    for name in ("host", "port", "workers"):
        if getattr(config.server, name) != getattr(former.server, name):
            yield problem(("server", name), told)
    if (config.ledger is None) != (former.ledger is None):
        yield problem(("ledger",), told)
    elif config.ledger is not None and former.ledger is not None:
        for name in ("url", "journal"):
            if getattr(config.ledger, name) != getattr(former.ledger, name):
                yield problem(("ledger", name), told)
    for name in ("redis", "tracing"):
        if getattr(config, name) != getattr(former, name):
            yield problem((name,), told)
    simulated = _simulated(former)
    for name, port in _simulated(config).items():
        if simulated.get(name) != port:
            yield problem(
                ("upstreams", name), "a simulated upstream is started with the gateway alone", told
            )


def _simulated(config: schema.Config) -> dict[str, int]:
    return {
        name: written.port
        for name, written in config.upstreams.items()
        if isinstance(written, schema.SimulatedUpstream)
    }


def _state(file: Path) -> tuple[int, int, int, int] | None:
    """Tells one state of a file from the next; None while there is none. Links are followed."""
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size


def _digest(file: Path) -> str | None:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
