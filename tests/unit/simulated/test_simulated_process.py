"""The child is quick to start, known by its port, and gone when its parent is."""

import os
import signal
import socket
import subprocess
import sys
import time

import click.testing
import psutil
import pytest

from app.cli.simulate import command
from app.simulated.process import SimulatedUpstream

PARENT = """
import time
from app.simulated.process import SimulatedUpstream
upstream = SimulatedUpstream.start()
print(upstream.process_id, flush=True)
time.sleep(600)
"""


def gone(process_id: int, timeout_seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process_id):
            return True
        if psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


def test_it_answers_at_once_and_stops() -> None:
    with SimulatedUpstream.start() as upstream:
        assert upstream.healthy()
        assert upstream.base_url == f"http://127.0.0.1:{upstream.port}/v1"
        child = upstream.process_id
    assert gone(child)
    with pytest.raises(ConnectionRefusedError):
        upstream.healthy()


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        SimulatedUpstream.start(port=taken.getsockname()[1])


def test_the_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert gone(child)


def test_the_command_explains_itself_and_imports_lightly() -> None:
    shown = click.testing.CliRunner().invoke(command, ["--help"])
    assert "x_simulate" in shown.output
    code = "import sys, app.simulated.process, app.cli.simulate; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    heavy = {"numpy", "faiss", "pydantic", "fastapi", "onnxruntime", "aiohttp"}
    assert not heavy & set(loaded.stdout.split())


def test_the_command_says_when_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        shown = click.testing.CliRunner().invoke(command, ["--port", port])
    assert shown.exit_code == 2
    assert "cannot listen" in shown.output
