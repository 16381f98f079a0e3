"""What a trace says of an upstream: whose it is, by the names of OpenTelemetry's conventions."""

from __future__ import annotations

from yarl import URL

from app.exchange.trace import Place

_BY_HOST = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
_BY_PROVIDER = {
    "azure": "azure.ai.openai", "google": "gcp.gemini", "aws": "aws.bedrock",
    "mistral": "mistral_ai", "x-ai": "x_ai",
}  # fmt: skip
"""Names that genai-prices, and so `provider:`, spells otherwise."""


def place_of(base_url: str, provider: str | None) -> Place:
    """Provider, address and port. Who only speaks OpenAI's dialect is `openai`: the convention
    names the dialect where the provider is not known."""
    url = URL(base_url)
    host = url.host or ""
    by_host = next((it for end, it in _BY_HOST.items() if f".{host}".endswith(f".{end}")), None)
    named = _BY_PROVIDER.get(provider, provider) if provider else by_host
    return {
        "gen_ai.provider.name": named or "openai",
        "server.address": host,
        "server.port": url.port or 80,
    }
