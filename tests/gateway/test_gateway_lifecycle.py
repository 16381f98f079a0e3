"""Starting and ending: what is under way is finished, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import body, eventually, free_port

CONFIG = """
upstreams: {sim: {kind: simulated}}
models: {one: {upstream: sim}}
routes: {auto: {candidates: [one], router: null}}
"""


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """A gateway with a simulated upstream of its own, and its address."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    url = f"http://127.0.0.1:{free_port()}"
    arguments = ["serve", "--config", str(config), "--port", url.rpartition(":")[2]]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments], stderr=subprocess.DEVNULL
    )
    eventually(lambda: ready(url), 30)
    yield process, url
    process.kill()
    process.wait()


def ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_stream_under_way_is_finished_before_the_end(started: Any) -> None:
    process, url = started
    request = body(stream=True, x_simulate={"chunks": 10, "chunk_delay_seconds": 0.1})
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=request) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert "data: [DONE]" in rest
    assert process.wait(5) in (0, -signal.SIGTERM)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/readyz")


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_the_simulated_upstream_ends_with_the_gateway(started: Any, kill: signal.Signals) -> None:
    process, _ = started
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("app.simulated" in " ".join(child.cmdline()) for child in children)
    os.kill(process.pid, kill)
    process.wait(5)
    eventually(lambda: not any(alive(child) for child in children))


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {}", "upstreams"),
        (CONFIG.replace("candidates: [one]", "candidates: [two]"), "two"),
        (CONFIG.replace("kind: simulated", "kind: openai, base_url: nowhere"), "base_url"),
        ("{", "config.yaml"),
    ],
)
def test_a_wrong_config_is_a_message_and_not_a_traceback(
    tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    command = [sys.executable, "-m", "app.cli", "serve", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_and_chat_work_from_the_first_request(started: Any, simulated: Control) -> None:
    _, url = started
    assert httpx2.post(f"{url}/v1/chat/completions", json=body()).status_code == 200
    assert "pointsman_requests_total" in httpx2.get(f"{url}/metrics").text
    assert simulated.log() == []
