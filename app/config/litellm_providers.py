"""LiteLLM's provider prefixes that have an endpoint for OpenAI's chat, and where it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """`base_url` is empty where the file must state it; `suffix` is what LiteLLM adds to it."""

    name: str
    base_url: str = ""
    key_variable: str = ""
    key_header: str = ""
    """Where the key goes, if not into `Authorization`."""
    suffix: str = ""

    def address(self, base: str) -> str:
        """Our base URL for LiteLLM's `api_base`."""
        base = re.sub(r"(/chat)?/completions/?\Z", "", base).rstrip("/")
        return base if not self.suffix or base.endswith(self.suffix) else base + self.suffix


_OLLAMA = Provider("ollama", "http://localhost:11434/v1", suffix="/v1")
_OWN = Provider("local")

PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "azure": Provider("azure", "", "AZURE_API_KEY", "api-key", "/openai/v1"),
    "anthropic": Provider("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": Provider(
        "gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"
    ),
    "cerebras": Provider("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "cohere": Provider("cohere", "https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
    "deepinfra": Provider("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Provider("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    "fireworks_ai": Provider(
        "fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"
    ),
    "groq": Provider("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "moonshot": Provider("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "novita": Provider("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    "nvidia_nim": Provider("nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "openrouter": Provider("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": Provider("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": Provider("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together_ai": Provider("together", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": Provider("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "custom_openai": _OWN,
    "hosted_vllm": Provider("vllm"),
    "litellm_proxy": Provider("litellm"),
    "llamafile": Provider("llamafile"),
    "lm_studio": Provider("lm-studio"),
    "openai_like": _OWN,
    "vllm": Provider("vllm"),
}
_ELSEWHERE = frozenset(
    {
        "azure_ai", "azure_text", "bedrock", "bedrock_converse", "cloudflare", "databricks",
        "huggingface", "nlp_cloud", "oci", "palm", "petals", "predibase", "replicate", "sagemaker",
        "sagemaker_chat", "snowflake", "text-completion-openai", "vertex_ai", "vertex_ai_beta",
        "watsonx",
    }
)  # fmt: skip
"""Known to LiteLLM, and not reached by a key and OpenAI's chat at one address."""
_FAMILIES = (
    (re.compile(r"^(gpt-|o[1-9](-|\Z)|chatgpt-|ft:)"), "openai"),
    (re.compile(r"^claude-"), "anthropic"),
    (re.compile(r"^gemini-"), "gemini"),
)


def provider_of(parameters: Mapping[str, Any]) -> tuple[Provider | None, str]:
    """The provider of a deployment, None if it can't be reached, and the model's id there."""
    model = str(parameters["model"])
    prefix, slash, rest = model.partition("/")
    stated = parameters.get("custom_llm_provider")
    based = bool(parameters.get("api_base") or parameters.get("base_url"))
    if isinstance(stated, str) and stated:
        return PROVIDERS.get(stated), rest if slash and prefix == stated else model
    if slash and prefix in _ELSEWHERE:
        return None, model
    if slash and prefix in PROVIDERS:
        provider = PROVIDERS[prefix]
        # `openai/` with an address of its own is LiteLLM's way to name any such server.
        own = prefix == "openai" and based and "api.openai.com" not in _base(parameters)
        return _OWN if own else provider, rest
    for family, name in _FAMILIES:
        if family.match(model):
            return _OWN if based and name == "openai" else PROVIDERS[name], model
    return (_OWN, model) if based else (None, model)


def _base(parameters: Mapping[str, Any]) -> str:
    return str(parameters.get("api_base") or parameters.get("base_url"))
