"""The real gateway, a process of its own, over real sockets, before the scripted upstream."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from app.simulated.control import Control
from app.simulated.process import SimulatedUpstream

START_SECONDS = 30.0
STOP_SECONDS = 10.0

MODELS = """
  small:
    upstream: sim
    id: up-small
    prices: {{input: 0.10, cached_input: 0.05, output: 0.40}}
    quality: 0.8
    capabilities: [tools, json_object]
    context_window: 4000
    max_output: 1000
  medium:
    upstream: sim
    id: up-medium
    prices: {{input: 1.00, cached_input: 0.50, cache_write: 1.25, output: 4.00}}
    quality: 0.8
  large:
    upstream: sim
    id: up-large
    prices: {{input: 5.00, cached_input: 0.50, output: 20.00}}
    quality: 0.8
"""

STANDARD = (
    """
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    api_key: secret-of-the-gateway
    retries: {{attempts: 0}}
    breaker: null
    max_cooldown_seconds: 0
models:"""
    + MODELS
    + """
routes:
  auto:
    aliases: [smart]
    candidates: [small, medium, large]
    baseline: large
    router: null
    objective: {{kind: quality, keep: 0.5}}
"""
)
"""Three equally good models: `auto` takes the cheapest that is eligible, and moves up from there.

Only `small` is limited: no vision, no JSON schema, no logprobs, a short context. What a test does
to the upstream must not matter to the next one, so nothing of it is remembered.
"""


class Gateway:
    """A served gateway."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self.http = httpx2.Client(base_url=url, timeout=30)
        self.folder = log.parent
        """Where its configuration is."""
        self._log = log
        self._read = 0

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> AsyncOpenAI:
        options = {"api_key": "sk-of-the-client", "max_retries": 0, **options}
        return AsyncOpenAI(base_url=self.base_url, **options)

    def chat(self, content: bytes | None = None, **fields: Any) -> httpx2.Response:
        """A chat request without a client library: exact bytes, or fields over a plain one."""
        if content is not None:
            return self.http.post("/v1/chat/completions", content=content)
        return self.http.post("/v1/chat/completions", json=body(**fields))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        return self.metric_of({}, name, **labels)

    def metric_of(self, headers: Mapping[str, str], name: str, **labels: str) -> float:
        """The same, where the metrics need a key."""
        text = self.http.get("/metrics", headers=headers).raise_for_status().text
        families = text_string_to_metric_families(text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def new_log(self) -> str:
        """What the gateway logged since the last look."""
        text = self._log.read_bytes()[self._read :]
        self._read += len(text)
        return text.decode(errors="replace")

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


def body(**fields: Any) -> dict[str, Any]:
    """A plain chat request, with other fields on top."""
    return {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], **fields}


def eventually(holds: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    """Wait until something holds; AssertionError after the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "did not come to hold"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def running_upstream() -> Iterator[Control]:
    with SimulatedUpstream.start() as upstream:
        yield upstream


@pytest.fixture
def simulated(running_upstream: Control) -> Control:
    """The scripted upstream, with nothing scripted and nothing logged."""
    running_upstream.clear()
    return running_upstream


Serve = Callable[..., Gateway]


@pytest.fixture(scope="session")
def _serve(running_upstream: Control, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    served: dict[tuple[Any, ...], Gateway] = {}
    with ExitStack() as stack:

        def serve(text: str, *arguments: str, **environment: str) -> Gateway:
            key = (text, *arguments, *environment.items())
            if key not in served:
                folder = tmp_path_factory.mktemp("gateway")
                (folder / "config.yaml").write_text(text.format(upstream=running_upstream.base_url))
                served[key] = _start(folder, arguments, stack, environment)
            return served[key]

        yield serve


@pytest.fixture
def gateway(_serve: Serve, simulated: Control) -> Iterator[Serve]:
    """Serves a YAML text, in which `{upstream}` is the scripted upstream's address.

    The same text is served once a session. Whatever a test does to it, the gateway must go on
    serving and must not have met an error of its own.
    """
    used: list[Gateway] = []

    def serve(text: str = STANDARD, *arguments: str, **environment: str) -> Gateway:
        one = _serve(text, *arguments, **environment)
        used.append(one)
        return one

    yield serve
    for one in used:
        assert one.process.poll() is None, one.new_log()
        assert one.http.get("/readyz").status_code == 200
        assert "Traceback" not in (log := one.new_log()), log


@pytest.fixture
def standard(gateway: Serve) -> Gateway:
    return gateway()


@pytest.fixture
async def client(standard: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with standard.client() as client:
        yield client


def _start(
    folder: Path,
    arguments: tuple[str, ...],
    stack: ExitStack,
    environment: Mapping[str, str] | None = None,
) -> Gateway:
    port = free_port()
    log = folder / "log"
    command = ["-m", "app.cli", "serve", "--config", str(folder / "config.yaml")]
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(
        [sys.executable, *command, "--port", str(port), *arguments],
        stdout=output,
        stderr=output,
        env={**os.environ, **(environment or {})},
    )
    stack.callback(_stop, process)
    one = Gateway(f"http://127.0.0.1:{port}", process, log)
    stack.callback(one.http.close)
    eventually(lambda: _ready(one), START_SECONDS)
    return one


def _ready(one: Gateway) -> bool:
    assert one.process.poll() is None, one.new_log()
    try:
        return one.http.get("/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
