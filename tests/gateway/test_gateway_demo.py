"""`pointsman demo` as a person would run it."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.cli.demo_report import read_totals, report
from app.cli.demo_traffic import Outcome, asks
from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, free_port


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_figures_for_machines(standard: Gateway, simulated: Control) -> None:
    done = demo("--url", standard.url, "--requests", "30", "--json")
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = orjson.loads(done.stdout)
    assert figures["requests"] == sum(line["requests"] for line in figures["models"]) == 30
    assert figures["failures"] == {}
    assert figures["simulated"]
    costs = sum(line["cost_usd"] for line in figures["models"])
    assert costs == pytest.approx(figures["cost_usd"], abs=1e-8)
    saved = figures["baseline_cost_usd"] - figures["cost_usd"]
    assert figures["saved_usd"] == pytest.approx(saved, abs=1e-8)
    assert len(simulated.log()) == 30


def test_a_table_for_people(standard: Gateway) -> None:
    done = demo("--url", standard.url, "--requests", "12")
    assert done.returncode == 0, done.stderr
    assert "Saved:" in done.stdout
    assert "the answers are made up" in " ".join(done.stdout.split())


def test_a_gateway_is_started_where_there_is_none() -> None:
    done = demo("--url", f"http://127.0.0.1:{free_port()}", "--requests", "6", "--json")
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = orjson.loads(done.stdout)
    assert {line["model"] for line in figures["models"]} <= {"sim-small", "sim-medium", "sim-large"}
    assert figures["simulated"]


def test_failures_are_shown(standard: Gateway, simulated: Control) -> None:
    simulated.script(times=None, status=503)
    done = demo("--url", standard.url, "--requests", "5", "--json")
    assert done.returncode == 1
    assert orjson.loads(done.stdout)["failures"] == {"upstream_server_error": 5}


def test_real_upstreams_are_not_used_without_leave(standard: Gateway, simulated: Control) -> None:
    """An upstream without the mark of simulation counts as one that costs money."""
    real = '{"object":"chat.completion","model":"m","choices":[]}'
    simulated.script(times=None, raw_sse=[real])
    done = demo("--url", standard.url, "--requests", "20")
    assert done.returncode == 2
    assert "--paid" in done.stderr
    assert len(simulated.log()) == 1
    assert demo("--url", standard.url, "--requests", "2", "--paid").returncode == 0


def test_a_gateway_that_wants_a_key_is_asked_once(gateway: Callable[..., Gateway]) -> None:
    guarded = gateway(STANDARD + "server: {{allow_anonymous: false}}\n")
    done = demo("--url", guarded.url, "--requests", "20")
    assert done.returncode == 2
    assert "--api-key" in done.stderr
    assert not done.stdout


def test_traffic_is_mixed_and_always_the_same() -> None:
    first, again = asks(112), asks(112)
    assert first == again
    assert len({str(ask.body) for ask in first}) == 112
    assert set(Counter(ask.kind for ask in first[:30])) == {
        *("easy", "reasoning", "code", "tools", "json", "stream", "long")
    }
    assert asks(113)[-1] == first[0]


def test_money_is_what_the_counters_grew_by() -> None:
    before = read_totals('pointsman_cost_dollars_total{route="auto",model="a"} 1.0\n')
    after = read_totals(
        'pointsman_cost_dollars_total{route="auto",model="a"} 1.5\n'
        'pointsman_cost_dollars_total{route="auto",model="b"} 0.25\n'
        'pointsman_baseline_cost_dollars_total{route="auto"} 3.0\n'
        'pointsman_saved_dollars_total{route="auto"} 2.5\n'
        'pointsman_overspent_dollars_total{route="auto"} 0.25\n'
    )
    outcomes = [
        Outcome("easy", 200, 0.1, "a", "auto", "learned", True),
        Outcome("easy", 200, 0.3, "a", "auto", "learned", True),
        Outcome("easy", 502, 0.2, None, "auto", "learned", False, "upstream_cut"),
    ]
    figures = report(outcomes, before, after)
    assert figures.cost_usd == pytest.approx(0.75)
    assert figures.saved_usd == pytest.approx(2.25)
    assert figures.saved_percent == pytest.approx(75)
    assert (figures.lines[0].model, figures.lines[0].requests) == ("a", 2)
    assert figures.lines[0].mean_latency_seconds == pytest.approx(0.2)
    assert figures.failures == {"upstream_cut": 1}
