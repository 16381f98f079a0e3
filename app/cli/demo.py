"""`pointsman demo`: varied traffic through a gateway, where it went and what that saved."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

import click

from app.cli.options import DEFAULT_CONFIG, Refused

if TYPE_CHECKING:
    from app.cli.demo_report import Report

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05


@click.command(name="demo")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The gateway.")
@click.option(
    "--requests", type=click.IntRange(1, 100_000), default=112, show_default=True, help="How many."
)
@click.option("--model", default="auto", show_default=True, help="The route or model to ask for.")
@click.option(
    "--api-key",
    envvar="POINTSMAN_API_KEY",
    show_envvar=True,
    help="The gateway's key, if it wants one.",
)
@click.option("--paid", is_flag=True, help="Go on although the gateway's upstreams are real.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    url: str, requests: int, model: str, api_key: str | None, paid: bool, as_json: bool
) -> None:
    """Send varied requests through a gateway and show where they went and what that saved.

    If no gateway answers at the URL, one with simulated upstreams is started for as long as the
    demo lasts: no key, no cost. A gateway with real upstreams is not used without --paid.
    """
    import orjson
    from rich.console import Console

    from app.cli.demo_report import show

    with ExitStack() as stack:
        if not is_ready(url):
            click.echo(f"No gateway at {url}: starting one with simulated upstreams.", err=True)
            url = stack.enter_context(_own_gateway())
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        figures = asyncio.run(_run(url, requests, model, headers, paid, quiet=as_json))
    if as_json:
        click.echo(orjson.dumps(figures.as_json(), option=orjson.OPT_INDENT_2))
    else:
        show(Console(), figures)
    raise SystemExit(1 if figures.failures else 0)


async def _run(
    url: str, requests: int, model: str, headers: dict[str, str], paid: bool, *, quiet: bool
) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from app.cli.demo_report import read_totals, report
    from app.cli.demo_traffic import asks, send_all

    first, *rest = asks(requests, model)
    before = read_totals(_metrics(url, headers))
    outcomes = await send_all(url, [first], headers, lambda: None)
    if outcomes[0].status in (401, 403):
        raise Refused(
            f"the gateway at {url} wants a key that is for `{model}`: give one as --api-key or "
            "POINTSMAN_API_KEY; `pointsman keys create` makes one."
        )
    if outcomes[0].status == 200 and not outcomes[0].simulated and not paid:
        raise Refused(
            f"the gateway at {url} has real upstreams, and {len(rest)} more requests would cost "
            "real money; say --paid to send them."
        )
    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
        bar = progress.add_task("Sending", total=requests, completed=1)
        outcomes += await send_all(url, rest, headers, lambda: progress.advance(bar))
    return report(outcomes, before, read_totals(_metrics(url, headers)))


def is_ready(url: str) -> bool:
    """Whether a gateway answers at a URL."""
    import httpx2

    try:
        return httpx2.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def _metrics(url: str, headers: dict[str, str]) -> str:
    import httpx2

    response = httpx2.get(f"{url}/metrics", headers=headers, timeout=30)
    return response.text if response.status_code == 200 else ""


@contextmanager
def _own_gateway() -> Iterator[str]:
    """A gateway that serves the demo's configuration on a free port, ended with the block.

    From a directory of its own: its simulated money is in nobody's ledger, and keys that somebody
    made for the shipped configuration do not close it.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {k: v for k, v in os.environ.items() if k != "POINTSMAN_ADMIN_KEY"}
    with (
        tempfile.TemporaryDirectory(prefix="pointsman-demo-") as folder,
        tempfile.TemporaryFile() as output,
    ):
        config = shutil.copy(DEFAULT_CONFIG, folder)
        arguments = ["-m", "app.cli", "serve", "--config", config, "--port", str(port)]
        gateway = subprocess.Popen(  # noqa: S603 -- our own interpreter and module
            [sys.executable, *arguments, "--host", "127.0.0.1"],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            _wait_until_ready(url, gateway, output)
            yield url
        finally:
            gateway.terminate()
            try:
                gateway.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                gateway.kill()
                gateway.wait()


def _wait_until_ready(url: str, gateway: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_ready(url):
        if gateway.poll() is not None or time.monotonic() > deadline:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise Refused(f"the gateway did not start:\n{said}")
        time.sleep(_POLL_SECONDS)
