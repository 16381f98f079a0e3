"""`pointsman serve`: run the gateway, and beside it the scripted upstreams a demo config names."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.options import config_file
from app.config.load import Loaded, load
from app.config.schema import Config, SimulatedUpstream

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.telemetry.logs import Format


@click.command(name="serve")
@config_file("The YAML to serve.")
@click.option("--host", help="Overrides server.host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Overrides server.port.")
@click.option("--workers", type=click.IntRange(1, 256), help="Overrides server.workers.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    envvar="POINTSMAN_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
    help="What is logged: this, and what is graver.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="POINTSMAN_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="json: an object a line.",
)
@click.option(
    "--access-log/--no-access-log",
    default=False,
    envvar="POINTSMAN_ACCESS_LOG",
    show_envvar=True,
    help="Log a line for every request.",
)
def command(
    file: Path,
    host: str | None,
    port: int | None,
    workers: int | None,
    log_level: str,
    log_format: Format,
    access_log: bool,
) -> None:
    """Serve a configuration. Without one: the demo, whose upstreams are simulated."""
    import uvicorn
    from uvicorn.config import STARTUP_FAILURE

    from app.accounting.declared import HOST_VARIABLE
    from app.accounting.place import Place
    from app.api.server import Server
    from app.api.workers import Workers
    from app.assembly import ACCESS_VARIABLE, CONFIG_VARIABLE, FORMAT_VARIABLE, LOG_VARIABLE
    from app.compiling import WORKERS_VARIABLE
    from app.telemetry.logs import configure

    loaded = load(file)
    if place := Place.compile(loaded.config.ledger, file.parent):
        place.prepare()
    server = loaded.config.server
    host = host or server.host
    port = server.port if port is None else port
    workers = workers or server.workers
    os.environ[CONFIG_VARIABLE] = str(file)
    os.environ[WORKERS_VARIABLE] = str(workers)
    os.environ[HOST_VARIABLE] = host
    os.environ[LOG_VARIABLE] = log_level.upper()
    os.environ[FORMAT_VARIABLE] = log_format
    os.environ[ACCESS_VARIABLE] = "1" if access_log else "0"
    configure(log_level.upper(), log_format)
    with ExitStack() as stack:
        stack.enter_context(_shared_metrics(workers))
        stack.enter_context(_taken(loaded, workers))
        stack.enter_context(_simulated(loaded.config))
        app = _application(loaded, workers, access_log=access_log)
        click.echo(f"Pointsman on http://{host}:{port} (config {file})", err=True)
        config = uvicorn.Config(
            app,
            factory=workers > 1,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http="app.api.protocol:BoundedProtocol",
            ws="none",
            log_level=log_level.lower(),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(server.keep_alive_seconds),
            backlog=4096,
        )
        if workers > 1:
            Workers(config, [config.bind_socket()]).run()
            return
        one = Server(config)
        one.run()
        if not one.started:
            sys.exit(STARTUP_FAILURE)


def _application(loaded: Loaded, workers: int, *, access_log: bool) -> FastAPI | str:
    """The application, or what each worker builds its own by.

    Compiled here either way: a config error is a message now, not a child that dies for ever.
    """
    from app.assembly import application, log_doubts
    from app.compiling import compile_config

    if workers == 1:
        return application(loaded, access_log=access_log)
    log_doubts(compile_config(loaded))
    return "app.assembly:application_from_environment"


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """With several workers, a directory in which their metrics add up.

    Set before the first import of prometheus_client, which looks for it then.
    """
    if workers == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    directory = tempfile.mkdtemp(prefix="pointsman-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _taken(loaded: Loaded, workers: int) -> Iterator[None]:
    """With several workers, a copy of the configuration for those that start later."""
    from app import taken

    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-config-") as directory:
        os.environ[taken.VARIABLE] = str(Path(directory) / "config")
        taken.keep(1, loaded.document.source)
        yield


@contextmanager
def _simulated(config: Config) -> Iterator[None]:
    """The scripted upstreams of a config, each a child process that ends with this one."""
    from app.parts import SIMULATED_VARIABLE

    with ExitStack() as stack:
        for name, upstream in config.upstreams.items():
            if isinstance(upstream, SimulatedUpstream):
                from app.simulated.process import SimulatedUpstream as Process

                running = stack.enter_context(Process.start(port=upstream.port))
                os.environ[SIMULATED_VARIABLE + name] = running.base_url
                click.echo(f"Upstream `{name}` is simulated, on {running.base_url}", err=True)
        yield
