"""What a LiteLLM proxy is configured with becomes ours, and what is lost is told."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.accounting.cost import cost
from app.catalog.prices import compile_prices
from app.cli import cli
from app.config.load import load, loads
from app.config.schema import Config, OpenAIUpstream
from app.errors import DataError
from app.exchange.usage import Usage

FULL = """\
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://eu.openai.azure.com/
      api_key: os.environ/AZURE_EU_KEY
      api_version: "2024-06-01"
      rpm: 6
      input_cost_per_token: 0.0000025
      output_cost_per_token: 0.00001
      cache_read_input_token_cost: 1.25e-06
  - model_name: gpt-4o
    litellm_params: {model: gpt-4o, api_key: sk-in-the-clear}
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-4-5
    model_info:
      max_input_tokens: 200000
      max_output_tokens: 64000
      supports_vision: false
      input_cost_per_token: 3e-6
      output_cost_per_token: 1.5e-5
      cache_read_input_token_cost: 3e-7
      cache_creation_input_token_cost: 0.00000375
      cache_creation_input_token_cost_above_1hr: 0.000006
      input_cost_per_token_above_200k_tokens: 6e-6
      output_cost_per_token_above_200k_tokens: 2.25e-05
      input_cost_per_token_priority: 6e-6
      output_cost_per_token_priority: 3e-5
      input_cost_per_token_flex: 1e-6
      input_cost_per_second: 1
  - model_name: local llama
    litellm_params:
      model: openai/meta-llama/Llama-3.1-8B
      api_base: http://10.0.0.1:8000/v1
      extra_headers: {X-Team: blue, Host: x}
  - {model_name: "groq/*", litellm_params: {model: "groq/*"}}
  - model_name: embed
    litellm_params: {model: text-embedding-3-small}
    model_info: {mode: embedding}
  - {model_name: bed, litellm_params: {model: bedrock/anthropic.claude-v2}}
litellm_settings:
  drop_params: true
  fallbacks: [{gpt-4o: [claude, nobody]}]
router_settings:
  routing_strategy: least-busy
  model_group_alias: {gpt-4: gpt-4o, chat: {model: claude, hidden: true}}
general_settings:
  master_key: os.environ/MASTER
"""
VARIABLES = ("AZURE_EU_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "LOCAL_X_TEAM")


def imported(tmp_path: Path, text: str, *options: str) -> Result:
    file = tmp_path / "litellm.yaml"
    file.write_text(text)
    return CliRunner().invoke(cli, ["import-litellm", str(file), *options])


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return imported(tmp_path, FULL)


@pytest.fixture
def config(result: Result) -> Config:
    assert result.exit_code == 0, result.output
    return loads(result.stdout, dict.fromkeys((*VARIABLES, "OPENAI_API_KEY_2"), "x")).config


def test_groups_become_models_with_their_deployments(config: Config) -> None:
    assert list(config.models) == ["gpt-4o@azure+openai", "claude@anthropic", "local-llama"]
    both = config.models["gpt-4o@azure+openai"]
    assert both.balance == "least-busy"
    assert both.deployments is not None
    assert [(one.upstream, one.id) for one in both.deployments] == [
        ("azure", "gpt-4o-eu"),
        ("openai", "gpt-4o"),
    ]
    limits = both.deployments[0].limits
    assert limits is not None
    assert limits.requests_per_minute == 6
    assert config.models["local-llama"].deployments is None
    azure = config.upstreams["azure"]
    assert isinstance(azure, OpenAIUpstream)
    assert azure.base_url == "https://eu.openai.azure.com/openai/v1"
    assert list(azure.headers) == ["api-key"]
    local = config.upstreams[config.models["local-llama"].upstream or ""]
    assert isinstance(local, OpenAIUpstream)
    assert (local.base_url, list(local.headers)) == ("http://10.0.0.1:8000/v1", ["X-Team"])
    assert config.models["local-llama"].id == "meta-llama/Llama-3.1-8B"
    claude = config.models["claude@anthropic"]
    assert (claude.context_window, claude.max_output) == (200_000, 64_000)
    assert claude.capabilities is not None
    assert "vision" not in claude.capabilities
    assert "tools" in claude.capabilities


def test_groups_become_routes_with_fallbacks_and_aliases(config: Config) -> None:
    route = config.routes["gpt-4o"]
    assert route.candidates == ["gpt-4o@azure+openai"]
    assert route.fallbacks == ["claude@anthropic"]
    assert route.aliases == ["gpt-4"]
    assert config.routes["claude"].aliases == ["chat"]
    assert config.routes["auto"].candidates == [
        "gpt-4o@azure+openai",
        "claude@anthropic",
        "local-llama",
    ]


def test_prices_are_a_million_times_theirs(config: Config) -> None:
    prices = compile_prices(config.models["claude@anthropic"].prices)
    # 10 x 3,000 + 100 x 300 + 20 x 3,750 + 30 x 6,000 + 7 x 15,000
    usage = Usage(160, 7, 100, 50, cache_write_1h_tokens=30)
    assert cost(prices, usage) == 30_000 + 30_000 + 75_000 + 180_000 + 105_000
    # Above 200k what is not stated stays as it is, as LiteLLM bills it.
    assert cost(prices, Usage(200_001, 1, 200_000)) == 6_000 + 200_000 * 300 + 22_500
    assert cost(prices, Usage(1, 1, service_tier="priority")) == 6_000 + 30_000
    assert cost(prices, Usage(1, 1, service_tier="flex")) is None
    azure, openai = config.models["gpt-4o@azure+openai"].deployments or ()
    assert cost(compile_prices(azure.prices), Usage(10, 1, 4)) == 6 * 2_500 + 4 * 1_250 + 10_000
    assert openai.prices is None


@pytest.mark.parametrize(
    "note",
    [
        "`litellm_params.api_version` is not carried over",
        "`api_key` stood in clear and is not copied: set OPENAI_API_KEY",
        "`input_cost_per_second` has no counterpart",
        "the prices of flex are left out",
        "`local llama` is called `local-llama`",
        "`extra_headers.Host` can't be sent",
        "a wildcard, `groq/*`",
        "`embed` is for embedding, not for chat",
        "`bedrock/anthropic.claude-v2` has no endpoint",
        "litellm_settings.drop_params: is not carried over",
        "litellm_settings.fallbacks.gpt-4o: `nobody` is no model group",
        "general_settings.master_key: is not carried over: set POINTSMAN_ADMIN_KEY",
    ],
)
def test_what_is_lost_is_told(result: Result, note: str) -> None:
    assert note in result.stderr
    assert "sk-in-the-clear" not in result.output


def test_what_is_written_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "OPENAI_API_KEY_2"):
        monkeypatch.setenv(name, "x")
    out = tmp_path / "ours.yaml"
    made = imported(tmp_path, FULL, "--out", str(out))
    assert made.exit_code == 0
    load(out)
    checked = CliRunner().invoke(cli, ["check", str(out)])
    assert checked.exit_code == 0, checked.output
    again = imported(tmp_path, FULL, "--out", str(out))
    assert again.exit_code == 2
    assert "exists" in again.output


def test_what_deployments_have_in_common_is_the_models(tmp_path: Path) -> None:
    text = """\
model_list:
  - model_name: m
    litellm_params: {model: gpt-4o, api_key: os.environ/A, weight: 3, tpm: 1000, order: 1,
      input_cost_per_token: 1.0e-6, output_cost_per_token: 2.0e-6}
    model_info: {max_input_tokens: 8000, max_output_tokens: 6000, supports_vision: false}
  - model_name: m
    litellm_params: {model: groq/x, api_key: os.environ/B, max_parallel_requests: 4, rpm: many,
      input_cost_per_token: 1.0e-6, output_cost_per_token: 2.0e-6}
    model_info: {max_input_tokens: 4000}
  - model_name: m
    litellm_params: {model: groq/x, api_key: os.environ/B}
router_settings: {routing_strategy: usage-based-routing}
"""
    result = imported(tmp_path, text)
    model = loads(result.stdout, {"A": "x", "B": "x"}).config.models["m"]
    one, two = model.deployments or ()
    assert (one.weight, one.priority, one.limits and one.limits.tokens_per_minute) == (3, 1, 1000)
    assert (two.weight, two.priority, two.limits and two.limits.parallel_requests) == (1, 0, 4)
    assert (one.prices, two.prices, model.context_window) == (None, None, 4000)
    assert model.max_output is None, "more than the smaller window"
    assert model.prices is not None
    assert model.balance == "weighted"
    assert "vision" not in (model.capabilities or ())
    assert "model group m: x at groq stands there twice" in result.stderr
    assert "`litellm_params.rpm` is no whole number" in result.stderr
    assert "`usage-based-routing` has no counterpart" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: {}", "no `model_list`"),
        ("- 1", "no `model_list`"),
        ("model_list: []", "no `model_list`"),
        ("a: 1\nmodel_list: [}", ":2: not YAML: expected the node content"),
        ("model_list: [1, {model_name: x}]", "no entry of `model_list` can be carried over"),
        (
            "model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_base: nowhere}}]",
            "must be an http or https address",
        ),
    ],
)
def test_what_is_not_litellms_is_refused(tmp_path: Path, text: str, said: str) -> None:
    result = imported(tmp_path, text)
    assert isinstance(result.exception, DataError)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("parameters", "base_url", "model_id"),
    [
        ({"model": "gpt-4o"}, "https://api.openai.com/v1", "gpt-4o"),
        ({"model": "o3-mini"}, "https://api.openai.com/v1", "o3-mini"),
        ({"model": "gemini/gemini-2.5-pro"}, None, "gemini-2.5-pro"),
        ({"model": "groq/openai/gpt-oss-20b"}, None, "openai/gpt-oss-20b"),
        ({"model": "ollama/llama3", "api_base": "http://o:1/"}, "http://o:1/v1", "llama3"),
        ({"model": "ollama_chat/llama3"}, "http://localhost:11434/v1", "llama3"),
        ({"model": "x", "custom_llm_provider": "mistral"}, "https://api.mistral.ai/v1", "x"),
        ({"model": "hosted_vllm/a/b", "base_url": "http://v:1/v1"}, "http://v:1/v1", "a/b"),
        ({"model": "mine", "api_base": "http://v:1/v1/chat/completions"}, "http://v:1/v1", "mine"),
    ],
)
def test_providers_are_found_by_prefix(
    tmp_path: Path, parameters: dict[str, Any], base_url: str | None, model_id: str
) -> None:
    listed = ", ".join(f"{key}: '{value}'" for key, value in parameters.items())
    result = imported(tmp_path, f"model_list: [{{model_name: m, litellm_params: {{{listed}}}}}]")
    names = [line.split()[1].rstrip(":") for line in result.stderr.splitlines() if "set " in line]
    made = loads(result.stdout, dict.fromkeys(names, "x")).config
    upstream = made.upstreams[made.models["m"].upstream]
    assert isinstance(upstream, OpenAIUpstream)
    assert base_url is None or upstream.base_url == base_url
    assert made.models["m"].id == model_id


@pytest.mark.parametrize("price", ["-1e-6", "true", ".nan", "lots", "5"])
def test_absurd_prices_are_not_carried_over(tmp_path: Path, price: str) -> None:
    keys = f"input_cost_per_token: {price}, output_cost_per_token: 1e-6"
    text = f"model_list: [{{model_name: m, litellm_params: {{model: gpt-4o, {keys}}}}}]"
    result = imported(tmp_path, text)
    assert "`input_cost_per_token` is not an amount" in result.stderr
    assert "prices" not in result.stdout.split("routes")[0].split("\n", 1)[1]
