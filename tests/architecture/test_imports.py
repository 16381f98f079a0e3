"""What must not be imported, proven in fresh interpreters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def imported_by(code: str) -> set[str]:
    """Top-level modules loaded after running `code` in a new interpreter."""
    script = f"{code}\nimport sys\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


SERVE = """
from pathlib import Path
from app.assembly import application
from app.config.load import load
application(load(Path("configs/demo.yaml")))
"""


def test_serving_with_the_default_encoder_needs_no_heavy_library() -> None:
    heavy = {"torch", "sentence_transformers", "transformers", "scipy", "sklearn", "matplotlib"}
    heavy |= {"aiohttp"}  # of tests and benchmarks
    heavy |= {"redis"}  # only with `redis:` in the YAML
    heavy |= {"google", "requests"}  # of OpenTelemetry's exporter: only with `tracing:`
    modules = imported_by(SERVE)
    assert {"faiss", "onnxruntime"} <= modules
    assert not modules & heavy
    # It is for the background, where it is loaded once requests are served.
    assert "sqlalchemy" not in modules


@pytest.mark.parametrize(
    "command", ["serve", "check", "simulate", "demo", "route", "spend", "train", "eval", "keys"]
)
def test_help_is_light(command: str) -> None:
    """`--help` must answer at once: what is heavy loads when it is used."""
    modules = imported_by(f"import app.cli.{command}")
    heavy = {"faiss", "onnxruntime", "numpy", "aiohttp", "sqlalchemy", "torch", "matplotlib"}
    assert not modules & heavy


def test_checking_a_configuration_needs_no_database_library() -> None:
    modules = imported_by(
        "from app.cli import main\n"
        "try: main(['check', 'configs/demo.yaml'])\n"
        "except SystemExit: pass"
    )
    assert "faiss" in modules
    assert not modules & {"sqlalchemy", "alembic", "asyncpg"}


def test_no_library_keeps_a_log_of_its_use(tmp_path: Path) -> None:
    """onnxruntime writes one to the cache directory, and sends it, unless told not to."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    subprocess.run(
        [sys.executable, "-m", "app.cli", "route", "hello", "--json"],
        env={**environment, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
