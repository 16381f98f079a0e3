"""The configuration is changed under a gateway that serves, and what it remembers is kept."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from app.compiling import compile_config
from app.config.load import load
from app.errors import ConfigError
from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, _start, body, eventually

ADMIN = {"authorization": "Bearer an-admin-key-of-the-tests"}
LIMITED = STANDARD + "    limits: {{requests_per_minute: 4, usd_per_day: 1}}\n"
CHANGED = LIMITED.replace("candidates: [small, medium, large]", "candidates: [medium, large]")


class Reloaded:
    """A gateway whose file is written anew."""

    def __init__(self, served: Gateway, upstream: str) -> None:
        self.served = served
        self._upstream = upstream
        self.file = served.folder / "config.yaml"

    def write(self, text: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text.format(upstream=self._upstream))
        fresh.replace(self.file)

    def reload(self) -> httpx2.Response:
        return httpx2.post(f"{self.served.url}/admin/reload", headers=ADMIN, timeout=30)

    def config(self, **headers: str) -> httpx2.Response:
        """On a connection of its own, so that any worker may answer."""
        return httpx2.get(f"{self.served.url}/admin/config", headers={**ADMIN, **headers})

    def ask(self, **fields: Any) -> httpx2.Response:
        url = f"{self.served.url}/v1/chat/completions"
        return httpx2.post(url, json=body(**fields), headers=ADMIN, timeout=30)

    def versions(self) -> dict[int, tuple[int, str]]:
        """Version and hash by worker, of those that happened to answer."""
        told = {}
        for _ in range(12):
            # A connection each; httpx2 would read the system's certificates for each.
            connection = HTTPConnection("127.0.0.1", self.served.port, timeout=30)
            connection.request("GET", "/admin/config", headers=ADMIN)
            one = json.load(connection.getresponse())
            connection.close()
            told[one["process"]] = (one["version"], one["hash"])
        return told


Start = Callable[..., Reloaded]


@pytest.fixture
def start(simulated: Control, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(text: str, *arguments: str) -> Reloaded:
            (tmp_path / "config.yaml").write_text(text.format(upstream=simulated.base_url))
            key = {"POINTSMAN_ADMIN_KEY": ADMIN["authorization"].removeprefix("Bearer ")}
            return Reloaded(_start(tmp_path, arguments, stack, key), simulated.base_url)

        yield started


def test_streams_counts_money_and_health_outlive_a_change(start: Start) -> None:
    one = start(LIMITED)
    slow = body(stream=True, x_simulate={"chunks": 30, "chunk_delay_seconds": 0.05})
    with httpx2.Client(base_url=one.served.url, headers=ADMIN, timeout=30) as http:
        with http.stream("POST", "/v1/chat/completions", json=slow) as under_way:
            lines = under_way.iter_lines()
            next(lines)
            assert one.ask().headers["x-pointsman-model"] == "small"
            one.write(CHANGED)
            told = one.reload().json()
            assert (told["changed"], told["version"]) == (True, 2)
            third = one.ask()
            assert third.headers["x-pointsman-model"] == "medium"
            assert "data: [DONE]" in list(lines)
        assert under_way.headers["x-pointsman-model"] == "small"
    # The first two were counted under the configuration before.
    assert third.headers["x-ratelimit-remaining-requests"] == "1"
    assert [one.ask().status_code for _ in range(2)] == [200, 429]
    assert one.served.metric_of(ADMIN, "pointsman_requests_in_flight") == 0
    states = httpx2.get(f"{one.served.url}/admin/deployments", headers=ADMIN).json()["data"]
    # What the breakers have seen of a deployment, before the change and after it.
    assert {each["model"]: each["requests"] for each in states} == {
        "small": 2, "medium": 2, "large": 0,
    }  # fmt: skip
    assert one.reload().json()["changed"] is False
    assert one.config().json()["version"] == 2
    assert "Traceback" not in (log := one.served.new_log()), log


def test_a_bad_file_is_refused_as_check_would_and_the_old_one_goes_on(start: Start) -> None:
    one = start(LIMITED)
    before = one.config()
    one.write(CHANGED.replace("baseline: large", "baseline: lage"))
    with pytest.raises(ConfigError) as refused:
        compile_config(load(one.file))
    answer = one.reload()
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "caller_config_refused")
    assert answer.json()["error"]["message"] == str(refused.value)
    assert "did you mean `large`?" in answer.json()["error"]["message"]
    one.write(CHANGED + "server: {{port: 1, workers: 3}}\nredis: {{url: redis://127.0.0.1:1}}\n")
    message = one.reload().json()["error"]["message"]
    for key in ("server.port", "server.workers", "redis"):
        assert f"{key}: can't change without a restart" in message
    assert one.config().json() == before.json()
    assert one.ask().headers["x-pointsman-model"] == "small"
    metric = "pointsman_config_last_reload_successful"
    assert one.served.metric_of(ADMIN, metric) == 0
    one.write(CHANGED)
    assert one.reload().status_code == 200
    assert one.served.metric_of(ADMIN, metric) == 1
    # Who may see it, and what of it. The same gateway, since one takes seconds to start.
    url = one.served.url
    assert httpx2.get(f"{url}/admin/config").status_code == 401
    assert httpx2.post(f"{url}/admin/reload").status_code == 401
    told = one.config()
    assert told.json()["config"]["upstreams"]["sim"]["api_key"] == "**********"
    assert "secret-of-the-gateway" not in told.text
    again = one.config(**{"if-none-match": told.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_all_workers_end_at_one_version_and_a_new_one_begins_there(start: Start) -> None:
    one = start(LIMITED, "--workers", "2")
    eventually(lambda: len(one.versions()) == 2, 20)
    children = psutil.Process(one.served.process.pid).children()
    one.write(CHANGED)
    digest = one.reload().json()["hash"]
    eventually(lambda: set(one.versions().values()) == {(2, digest)} and len(one.versions()) == 2)
    os.kill(one.served.process.pid, signal.SIGHUP)
    # A worker that dies is replaced by one that serves the same, though the file is wrong by now.
    one.write("models: nothing\n")
    dead = next(child for child in children if child.pid in one.versions())
    dead.kill()

    def replaced() -> bool:
        told = one.versions()
        return dead.pid not in told and len(told) == 2

    eventually(replaced, 20)
    assert set(one.versions().values()) == {(2, digest)}
    one.write(LIMITED)
    os.kill(one.served.process.pid, signal.SIGHUP)
    eventually(lambda: {version for version, _ in one.versions().values()} == {3})
