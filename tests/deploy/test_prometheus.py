"""Prometheus' files: well formed, right in what they compute, and about metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from app.telemetry.metrics import Metrics
from tests.deploy.promtool import program

FOLDER = Path("deploy/prometheus")
RULES = sorted(FOLDER.glob("rules/*.yml"))
TESTS = sorted(FOLDER.glob("tests/*.yml"))
NAME = re.compile(r"pointsman[_:][a-z0-9_:]*[a-z0-9]")


def read(file: Path) -> Any:
    return YAML(typ="safe").load(file.read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for group in read(file)["groups"] for rule in group["rules"]]


def alerts() -> list[str]:
    return [rule["alert"] for rule in rules() if "alert" in rule]


def series_names() -> set[str]:
    """Every series that a gateway may serve, and every one that is recorded."""
    names = {rule["record"] for rule in rules() if "record" in rule}
    for family in Metrics(CollectorRegistry()).registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + end for end in ends.get(family.type, ("",))}
    return names


def run(*arguments: str | Path) -> None:
    done = subprocess.run([program("promtool"), *arguments], check=False, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_scrape_config_is_valid() -> None:
    # Its key is a file that only a container has.
    run("check", "config", "--syntax-only", FOLDER / "prometheus.yml")


def test_the_rules_are_valid() -> None:
    run("check", "rules", *RULES)


def test_rules_compute_and_alerts_fire_as_the_unit_tests_say() -> None:
    run("test", "rules", *TESTS)


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_is_seen_firing_in_a_unit_test(alert: str) -> None:
    checks = [
        check
        for file in TESTS
        for test in read(file)["tests"]
        for check in test["alert_rule_test"]
        if check["alertname"] == alert
    ]
    assert any(check.get("exp_alerts") for check in checks)


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_says_what_to_do(alert: str) -> None:
    (rule,) = (rule for rule in rules() if rule.get("alert") == alert)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"
    assert f"\n### {alert}\n" in Path("docs/operations.md").read_text()


def test_rules_name_only_series_that_exist() -> None:
    named = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    assert named
    assert named <= series_names()
