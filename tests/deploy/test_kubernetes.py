"""The manifests against Kubernetes' own schemas, and what the schemas do not know."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from app.accounting.key_text import Hasher
from app.api.server import ENDING_SECONDS
from app.compiling import compile_config
from app.config import schema
from app.config.load import load

FOLDER = Path("deploy/kubernetes")
VERSIONS = ("1.29", "1.33", "1.37")
LABEL = {"app.kubernetes.io/name": "pointsman"}


def documents(text: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(io.StringIO(text)))


KUSTOMIZATION = documents((FOLDER / "kustomization.yaml").read_text())[0]
RESOURCES = [
    resource
    for file in [*KUSTOMIZATION["resources"], "secrets.example.yaml"]
    for resource in documents((FOLDER / file).read_text())
]


def of_kind(kind: str) -> dict[str, Any]:
    return next(each for each in RESOURCES if each["kind"] == kind)


def name_of(resource: dict[str, Any]) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resource", RESOURCES, ids=name_of)
def test_every_manifest_fits_its_schema(resource: dict[str, Any], version: str) -> None:
    if (
        resource["kind"] == "ServiceMonitor"
    ):  # the Prometheus operator's, no schema of which is here
        assert set(resource["spec"]) == {"jobLabel", "selector", "endpoints"}
        return
    kubernetes_validate.validate(resource, version, strict=True)


def test_kustomize_builds_it() -> None:
    """Where kubectl is; the manifests it is built of are checked everywhere."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        assert all((FOLDER / file).exists() for file in KUSTOMIZATION["resources"])
        return
    done = subprocess.run([kubectl, "kustomize", FOLDER], check=True, capture_output=True)
    built = documents(done.stdout.decode())
    for resource in built:
        if resource["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)
    (config,) = (each for each in built if each["kind"] == "ConfigMap")
    (gateway,) = (each for each in built if each["kind"] == "StatefulSet")
    volumes = gateway["spec"]["template"]["spec"]["volumes"]
    assert config["metadata"]["name"] in [each.get("configMap", {}).get("name") for each in volumes]


def test_all_that_selects_selects_the_gateways_and_nothing_else() -> None:
    gateway = of_kind("StatefulSet")
    assert gateway["spec"]["template"]["metadata"]["labels"] == LABEL
    assert gateway["spec"]["selector"] == {"matchLabels": LABEL}
    assert of_kind("PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": LABEL}
    assert of_kind("NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": LABEL}
    services = [each for each in RESOURCES if each["kind"] == "Service"]
    assert all(each["spec"]["selector"] == LABEL for each in services)
    assert gateway["spec"]["serviceName"] in [each["metadata"]["name"] for each in services]


def test_prometheus_follows_one_of_the_two_services() -> None:
    monitor = of_kind("ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [each for each in RESOURCES if each["kind"] == "Service"]
    (one,) = (each for each in services if wanted <= each["metadata"].get("labels", {}).items())
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in one["spec"]["ports"]]


def test_the_gateway_runs_without_rights_on_a_read_only_file_system() -> None:
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.search(r"^USER (\d+):(\d+)$", Path("Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert str(pod["securityContext"]["runAsUser"]) == user[1]
    assert str(pod["securityContext"]["fsGroup"]) == user[2]


def test_the_journal_is_on_the_volume_that_outlives_a_pod() -> None:
    gateway = of_kind("StatefulSet")["spec"]
    (claim,) = gateway["volumeClaimTemplates"]
    (container,) = gateway["template"]["spec"]["containers"]
    (place,) = (
        each["mountPath"]
        for each in container["volumeMounts"]
        if each["name"] == claim["metadata"]["name"]
    )
    written = documents((FOLDER / "config.yaml").read_text())[0]
    assert Path(written["ledger"]["journal"]).is_relative_to(place)


def test_the_autoscaler_keeps_what_redis_is_told_of() -> None:
    autoscaler = of_kind("HorizontalPodAutoscaler")["spec"]
    assert autoscaler["minReplicas"] == 2
    written = documents((FOLDER / "config.yaml").read_text())[0]
    assert written["redis"]["replicas"] == autoscaler["minReplicas"]
    adapter = documents((FOLDER / "prometheus-adapter.values.yaml").read_text())[0]
    (rule,) = adapter["rules"]["custom"]
    pods = next(each["pods"] for each in autoscaler["metrics"] if each["type"] == "Pods")
    assert rule["name"]["as"] == pods["metric"]["name"]


def test_there_is_time_to_drain() -> None:
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    drain = schema.Drain(**documents((FOLDER / "config.yaml").read_text())[0]["server"]["drain"])
    takes = drain.delay_seconds + drain.timeout_seconds + ENDING_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= takes
    # A pod that is told to end leaves the endpoints at once, whatever its probes say, and all nodes
    # know within the delay; who asks `/readyz` by itself as often as this does so too.
    (gateway,) = pod["containers"]
    assert gateway["readinessProbe"]["periodSeconds"] <= drain.delay_seconds


def test_the_secrets_are_all_that_the_config_asks_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POINTSMAN_KEY_SECRET", "s" * 32)
    secret, scraping = (each for each in RESOURCES if each["kind"] == "Secret")
    environment = {
        **dict.fromkeys(secret["stringData"], "x"),
        "POINTSMAN_METRICS_KEY_ID": "metrics",
        "POINTSMAN_METRICS_KEY_HASH": Hasher(b"s" * 32).written("pm-metrics-x"),
        "POINTSMAN_LEDGER_URL": secret["stringData"]["POINTSMAN_LEDGER_URL"],
        "POINTSMAN_REDIS_URL": secret["stringData"]["POINTSMAN_REDIS_URL"],
    }
    compile_config(load(FOLDER / "config.yaml", environment))
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    credentials = of_kind("ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert credentials["name"] == scraping["metadata"]["name"]
    assert set(scraping["stringData"]) == {credentials["key"]}
    assert not any("secret" in file for file in KUSTOMIZATION["resources"])
