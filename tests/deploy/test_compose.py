"""docker-compose.yml by its structure: no container engine runs where the tests do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.accounting.key_text import Hasher, id_in
from app.api.server import ENDING_SECONDS
from app.compiling import compile_config
from app.config import schema
from app.config.load import load

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
COMPOSE: dict[str, Any] = YAML(typ="safe").load(Path("docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def filled(text: str, environment: Mapping[str, str]) -> str:
    """As Compose fills in variables; all have a default."""
    return VARIABLE.sub(lambda found: environment.get(found[1]) or found[2], text)


def environment_of(service: str) -> dict[str, str]:
    return {name: filled(text, {}) for name, text in SERVICES[service]["environment"].items()}


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for each in node.values():
            yield from texts(each)
    elif isinstance(node, list):
        for each in node:
            yield from texts(each)
    elif isinstance(node, str):
        yield node


def test_every_image_is_pinned_to_an_exact_version() -> None:
    for service in SERVICES.values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), service["image"]


def test_every_variable_has_a_default_so_that_the_demo_needs_none() -> None:
    for text in texts(COMPOSE):
        for name, default in VARIABLE.findall(text):
            assert default, name


def test_no_door_is_open_to_other_machines() -> None:
    """The demo's secrets are known to whoever reads the file."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_is_referred_to_exists() -> None:
    named: set[str] = set()
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = filled(mount, {}).split(":")[0]
            if source.startswith("."):
                assert Path(source).exists(), source
                assert mount.endswith(":ro"), mount
            else:
                named.add(source)
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert {each["source"] for each in service.get("configs", [])} <= set(COMPOSE["configs"])
        for other in service.get("depends_on", {}):
            assert other in SERVICES
            # Who waits for a service of a profile must be in it.
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))
            healthy = "healthcheck" in SERVICES[other] or SERVICES[other].get("build")
            assert healthy, f"{name} waits for the health of {other}, which has no check"
    assert named == set(COMPOSE["volumes"])


def test_the_demo_is_a_profile_and_all_else_is_not() -> None:
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert demo == {"demo-upstream", "demo-traffic"}


@pytest.mark.parametrize("service", ["gateway", "demo-upstream", "demo-traffic"])
def test_the_gateways_image_runs_read_only_and_without_rights(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]


def test_databases_are_out_of_reach_of_all_but_the_gateway() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert {name for name, each in SERVICES.items() if "data" in each["networks"]} == {
        "gateway", "postgres", "redis",
    }  # fmt: skip
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


def test_the_gateway_serves_its_config_with_the_demos_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("POINTSMAN_KEY_SECRET", "POINTSMAN_ADMIN_KEY"):
        monkeypatch.setenv(name, environment_of("gateway")[name])
    compiled = compile_config(load(Path("deploy/compose/gateway.yaml"), environment_of("gateway")))
    assert compiled.config.redis is not None
    assert set(compiled.config.upstreams) == {"demo"}


def test_prometheus_own_key_is_the_one_that_the_gateway_knows() -> None:
    environment = environment_of("gateway")
    key = filled(COMPOSE["configs"]["metrics_key"]["content"], {})
    assert id_in(key.encode()) == environment["POINTSMAN_METRICS_KEY_ID"]
    hasher = Hasher(environment["POINTSMAN_KEY_SECRET"].encode())
    assert hasher.written(key) == environment["POINTSMAN_METRICS_KEY_HASH"]


def test_prometheus_finds_the_gateway_and_its_key_where_compose_has_them() -> None:
    scraping = YAML(typ="safe").load(Path("deploy/prometheus/prometheus.yml").read_text())
    (job,) = scraping["scrape_configs"]
    (mounted,) = SERVICES["prometheus"]["configs"]
    assert job["authorization"]["credentials_file"] == mounted["target"]
    (target,) = job["dns_sd_configs"]
    assert target["names"] == ["gateway"]
    assert f":{target['port']}" in SERVICES["gateway"]["ports"][0]


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    provisioning = Path("deploy/grafana/provisioning")
    (source,) = YAML(typ="safe").load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = YAML(typ="safe").load((provisioning / "dashboards/pointsman.yml").read_text())[
        "providers"
    ]
    mounts = [mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"]] in mounts


def test_the_example_names_every_secret_and_no_other() -> None:
    written = Path("deploy/compose/example.env").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z_]+)=", written, re.MULTILINE))
    assert named - {"POINTSMAN_KEY_SECRET"} <= {
        name for text in texts(COMPOSE) for name, _ in VARIABLE.findall(text)
    }
    assert {name for text in texts(COMPOSE) for name, _ in VARIABLE.findall(text)} <= named


def test_there_is_time_to_drain() -> None:
    written = YAML(typ="safe").load(Path("deploy/compose/gateway.yaml").read_text())
    drain = schema.Server(**written["server"]).drain
    takes = drain.delay_seconds + drain.timeout_seconds + ENDING_SECONDS
    assert int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) >= takes
    assert f"--stop-timeout {takes:.0f} " in Path("Dockerfile").read_text()
