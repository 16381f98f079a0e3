"""How each gateway is configured and started, so that anyone can see that the rival runs well.

Each serves one worker in front of the same upstream, with a model entry per upstream model id, no
database, no keys and no log line per request.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import NotReady, ProcessTree, free_port

REPOSITORY = Path(__file__).resolve().parent.parent
_ROUTER = REPOSITORY / "router_models" / "default"
UNSURE, ALWAYS, NEVER = "auto", "encode-always", "encode-never"
"""Model names that let Pointsman choose: routes that encode when unsure (as shipped), always and
never."""


@dataclass(frozen=True)
class Kind:
    """One make of gateway: its config file for an upstream, and the command that serves it."""

    name: str
    version: str
    python: Path
    ready_path: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    write_config: Callable[[str, Sequence[str]], dict[str, object]]
    """A configuration for an upstream's base URL and the model ids it offers."""
    routes: tuple[str, ...] = ()
    """Names by which it can be asked to choose a model."""
    ready_timeout_seconds: float = 90.0

    def config(self, upstream_port: int, models: Sequence[str]) -> bytes:
        """JSON, which every YAML reader reads."""
        return orjson.dumps(self.write_config(f"http://127.0.0.1:{upstream_port}/v1", models))


class Gateway:
    """A gateway of some kind, serving."""

    def __init__(self, kind: Kind, upstream_port: int, models: Sequence[str]) -> None:
        self.kind = kind
        self.port = free_port()
        self._room = tempfile.TemporaryDirectory(prefix=f"bench-{kind.name.lower()}-")
        room = Path(self._room.name)
        config = room / "config.yaml"
        config.write_bytes(kind.config(upstream_port, models))
        fields = {"config": str(config), "port": str(self.port)}
        command = [str(kind.python), *(part.format_map(fields) for part in kind.arguments)]
        self.process = ProcessTree(
            command, directory=room, log=room / "log", environment=kind.environment
        )
        try:
            self.start_seconds = self.process.wait_ready(
                self.port, kind.ready_path, timeout_seconds=kind.ready_timeout_seconds
            )
        except NotReady as error:
            self.stop()
            raise NotReady(f"{kind.name}: {error}") from None

    def predictions(self, route: str) -> Mapping[str, float]:
        """How many prompts of a route were predicted so far, by what was read of them."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as page:
            families = text_string_to_metric_families(page.read().decode())
        return {
            sample.labels["speed"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "pointsman_predictions_total" and sample.labels["route"] == route
        }

    def stop(self) -> None:
        self.process.stop()
        self._room.cleanup()


def pointsman() -> Kind:
    """The gateway of this checkout, run by the Python that runs the benchmark."""
    return Kind(
        name="Pointsman",
        version=_commit(),
        python=Path(sys.executable),
        ready_path="/readyz",
        arguments=(
            *("-m", "app.cli", "serve", "--config", "{config}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
        ),
        environment={"PYTHONPATH": str(REPOSITORY)},
        write_config=_routing_config if _ROUTER.is_dir() else _pinning_config,
        routes=_routes(),
    )


def litellm(python: Path) -> Kind:
    """LiteLLM's proxy in its own environment, set as its production page advises.

    Where a setting is a choice it is the one that makes LiteLLM faster: its cost map is read from
    the package, not fetched, and it checks no key, as the Pointsman beside it checks none.
    """
    return Kind(
        name="LiteLLM",
        version=_litellm_version(python),
        python=python.absolute(),
        ready_path="/health/liveliness",
        arguments=(
            *("-m", "litellm.proxy.proxy_cli", "--config", "{config}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"),
        ),
        environment={
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "PYTHONPATH": "",
        },
        write_config=_litellm_config,
    )


def litellm_cache() -> Path:
    """Where `python -m benchmarks.install_litellm` puts LiteLLM: outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    return base / "pointsman" / "bench-litellm"


def litellm_python() -> Path:
    return litellm_cache() / "bin" / "python"


def _pinning_config(base_url: str, models: Sequence[str]) -> dict[str, Any]:
    """Models that a client may name; all there is to measure without a router."""
    return {
        "upstreams": {"fast": {"kind": "openai", "base_url": base_url, "api_key": "sk-benchmark"}},
        "models": {
            model: {"upstream": "fast", "prices": {"input": 0.15, "output": 0.6}}
            for model in models
        },
    }


def _routing_config(base_url: str, models: Sequence[str]) -> dict[str, object]:
    """The same, and a route over candidates that the default router has outcomes of."""
    candidates: dict[str, object] = {
        name: {
            "upstream": "fast",
            "id": "fast",
            "prices": {"input": price, "cached_input": price / 2, "output": price * 4},
            "like": like,
        }
        for name, (like, price) in _CANDIDATES.items()
    }
    config = _pinning_config(base_url, models)
    route = {"candidates": list(_CANDIDATES), "baseline": "largest", "router": _ROUTER.name}
    encode = {UNSURE: "when-unsure", ALWAYS: "always", NEVER: "never"}
    routes = {name: {**route, "encode": encode[name]} for name in _routes()}
    return {**config, "models": {**config["models"], **candidates}, "routes": routes}


def _routes() -> tuple[str, ...]:
    """The routes that the default router can serve: never to encode, it must read text."""
    from app.routing.artifact import load_artifact
    from app.routing.estimators.base import Candidate

    if not _ROUTER.is_dir():
        return ()
    candidates = [Candidate(name, like) for name, (like, _) in _CANDIDATES.items()]
    reads = load_artifact(_ROUTER).estimator(candidates).reads_text
    return (UNSURE, ALWAYS, NEVER) if reads else (UNSURE, ALWAYS)


# Candidates by name: a model that the default router knows, and a price in USD per million.
_CANDIDATES = {
    "small": ("Meta-Llama-3.1-8B-Instruct", 0.05),
    "medium": ("gpt-4o-mini-2024-07-18", 0.15),
    "large": ("Meta-Llama-3.1-70B-Instruct", 0.6),
    "largest": ("gpt-4o-2024-08-06", 2.5),
}


def _litellm_config(base_url: str, models: Sequence[str]) -> dict[str, object]:
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": base_url,
                    "api_key": "sk-benchmark",
                },
            }
            for model in models
        ],
        "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
    }


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _litellm_version(python: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
