"""The public surface in one place: a change here is a change for users, made on purpose."""

from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from app.cli import COMMANDS
from app.cli.schema import document
from app.config.load import load, loads
from app.config.schema import Config
from app.errors import ConfigError, GatewayError
from app.routing.explain import REASONS
from app.telemetry.metrics import Metrics

CONFIGS = sorted(Path("configs").glob("*.yaml"))
ENVIRONMENT = dict.fromkeys(
    (
        "OPENAI_API_KEY",
        "AZURE_OPENAI_RESOURCE",
        "AZURE_OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
    ),
    "x",
)


def metric_names() -> list[str]:
    metrics = Metrics(CollectorRegistry())
    families = metrics.registry.collect()
    names = [f.name + ("_total" if f.type == "counter" else "") for f in families]
    return sorted(names)


def test_metric_names() -> None:
    assert metric_names() == [
        "pointsman_baseline_cost_dollars_total",
        "pointsman_budget_warnings_total",
        "pointsman_build",
        "pointsman_cache_bytes",
        "pointsman_cache_entries",
        "pointsman_cache_requests_total",
        "pointsman_config",
        "pointsman_config_last_reload_success_timestamp_seconds",
        "pointsman_config_last_reload_successful",
        "pointsman_cost_dollars_total",
        "pointsman_decision_seconds",
        "pointsman_decisions_total",
        "pointsman_deployment_cooldowns_total",
        "pointsman_deployment_openings_total",
        "pointsman_deployment_state",
        "pointsman_encode_seconds",
        "pointsman_encoder_cache_total",
        "pointsman_estimated_requests_total",
        "pointsman_hedges_total",
        "pointsman_ledger_errors_total",
        "pointsman_ledger_lag_seconds",
        "pointsman_ledger_lost_records_total",
        "pointsman_ledger_pending_records",
        "pointsman_ledger_records_total",
        "pointsman_limit_refusals_total",
        "pointsman_novelty_ratio",
        "pointsman_overhead_seconds",
        "pointsman_overspent_dollars_total",
        "pointsman_predictions_total",
        "pointsman_redis_away",
        "pointsman_request_duration_seconds",
        "pointsman_requests_in_flight",
        "pointsman_requests_queued",
        "pointsman_requests_total",
        "pointsman_retries_total",
        "pointsman_saved_dollars_total",
        "pointsman_senseless_usage_total",
        "pointsman_shed_requests_total",
        "pointsman_time_to_first_token_seconds",
        "pointsman_tokens_total",
        "pointsman_unpriced_requests_total",
        "pointsman_upstream_attempts_total",
        "pointsman_upstream_duration_seconds",
    ]


def test_commands() -> None:
    assert list(COMMANDS) == [
        "add-model", "calibrate", "check", "compare", "demo", "encoder", "eval", "import-litellm",
        "keys", "models", "route", "schema", "serve", "simulate", "spend", "train",
    ]  # fmt: skip


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_documented(name: str) -> None:
    assert f"`{name}`" in Path("docs/metrics.md").read_text()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    assert f"pointsman {name}" in Path("docs/cli.md").read_text()


def written_keys() -> list[str]:
    keys: set[str] = set()
    schema = Config.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        keys |= set(part.get("properties", {}))
    return sorted(keys)


@pytest.mark.parametrize("key", written_keys())
def test_every_config_key_is_documented(key: str) -> None:
    assert f"`{key}`" in Path("docs/configuration.md").read_text()


def test_the_published_schema_is_the_one_in_force() -> None:
    published = Path("configs/schema.json").read_bytes()
    assert published == document(), "run `pointsman schema > configs/schema.json`"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_shipped_configs_are_valid_for_us_and_for_editors(file: Path) -> None:
    load(file, ENVIRONMENT)
    written = YAML(typ="safe").load(file.read_text())
    # Through JSON, as an editor sees it.
    Draft202012Validator(orjson.loads(document())).validate(orjson.loads(orjson.dumps(written)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: openai, ", ""),
        ("port: 1", "port: '${PORT}'"),
        ("port: 1", "port: 1.5"),
        ("{kind: quality}", "{keep: 0.9}"),
        ("port: 1", "prt: 1"),
    ],
)
def test_editors_and_check_agree(old: str, new: str) -> None:
    text = (
        "server: {port: 1}\n"
        "upstreams: {u: {kind: openai, base_url: 'http://x/v1'}}\n"
        "models: {m: {upstream: u}}\n"
        "routes: {auto: {candidates: [m], objective: {kind: quality}}}\n"
    )
    changed = text.replace(old, new)
    assert changed != text
    try:
        loads(changed, {"PORT": "80"})
        ours = True
    except ConfigError:
        ours = False
    written = YAML(typ="safe").load(changed)
    assert Draft202012Validator(orjson.loads(document())).is_valid(written) is ours


def codes() -> list[str]:
    def under(error: type[GatewayError]) -> set[str]:
        return {error.code}.union(*(under(child) for child in error.__subclasses__()))

    return sorted(under(GatewayError) - {"upstream_error"})


@pytest.mark.parametrize("word", [*codes(), *REASONS])
def test_every_code_and_reason_is_documented(word: str) -> None:
    assert f"`{word}`" in Path("docs/api.md").read_text()
