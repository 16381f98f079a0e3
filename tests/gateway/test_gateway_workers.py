"""Several workers are one gateway: their metrics add up, and a bad config is one message."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.gateway.conftest import STANDARD, Gateway, eventually


def test_metrics_of_all_workers_add_up(gateway: Callable[..., Gateway]) -> None:
    two = gateway(STANDARD, "--workers", "2")
    before = two.metric("pointsman_requests_total", code="200")
    requests = 40

    def ask(_: int) -> Any:
        # A connection each, so that the kernel gives both workers some of them.
        with httpx2.Client(base_url=two.url, timeout=30) as http:
            body = {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}
            return http.post("/v1/chat/completions", json=body).raise_for_status().headers

    with ThreadPoolExecutor(4) as threads:
        headers = list(threads.map(ask, range(requests)))
    for _ in range(4):
        # Whichever worker answers, it must know of all.
        assert two.metric("pointsman_requests_total", code="200") - before == requests
        cost = sum(float(each["x-pointsman-cost-usd"]) for each in headers)
        assert two.metric("pointsman_cost_dollars_total", model="small") == pytest.approx(cost)
        assert two.metric("pointsman_requests_in_flight") == 0


def test_workers_serve_at_the_same_time(gateway: Callable[..., Gateway]) -> None:
    two = gateway(STANDARD, "--workers", "2")
    children = psutil.Process(two.process.pid).children(recursive=True)
    serving = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert len(serving) == 2


def test_workers_log_as_one_process_does(gateway: Callable[..., Gateway]) -> None:
    """Changes of keys are logged, and the log of a process that has none is warnings alone."""
    two = gateway(STANDARD + "limits: {{requests_per_minute: 1000}}\n", "--workers", "2")
    # It is ready as soon as one of them answers; the other may still be starting.
    log = ""

    def both_started() -> bool:
        nonlocal log
        log += two.new_log()
        return log.count("Started server process") == 2

    eventually(both_started, 20)
    lines = log.splitlines()
    dated = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d .* (INFO|WARNING) ", line)]
    assert sum("Started server process" in line for line in dated) == 2
    (doubt,) = (line for line in lines if "equal part of every limit" in line)
    assert doubt in dated


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bad_config_is_a_message(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "upstreams: {sim: {kind: simulated}}\n"
        "models: {a: {upstream: sim, like: gpt-4-1106-previeu}}\n"
        "routes: {auto: {candidates: [a]}}\n"
    )
    command = ["-m", "app.cli", "serve", "--config", str(file), "--port", "0"]
    done = subprocess.run(
        [sys.executable, *command, "--workers", workers],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "bad.yaml:2: models.a.like: no router of this file has outcomes of" in done.stderr
    assert "did you mean `gpt-4-1106-preview`?" in done.stderr
    assert "Traceback" not in done.stderr
