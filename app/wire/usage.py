"""Usage as each dialect reports it, brought to one form: `app.exchange.usage.Usage`.

Providers differ in what a count includes. OpenAI's input has the cached tokens in it, Anthropic's
has not; OpenAI's output has the reasoning in it, Gemini's and xAI's have not. Each reader takes
the upstream's JSON, gives None where it reports nothing, and raises SenselessUsage where what it
reports can't be: such a report is not repaired, because a repaired one is a wrong dollar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from app.exchange.money import NANO_PER_DOLLAR
from app.exchange.usage import Usage

MOST_TOKENS = 100_000_000
"""Of one call: a hundred times the largest context on offer."""
_MOST_DOLLARS = 1e9
_PLAIN = frozenset(
    {
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
        "completion_tokens_details",
    }
)  # fmt: skip
_TIER = re.compile(r"^[A-Za-z0-9_-]{1,64}\Z")
_ANYWHERE = (None, "", "global", "not_available")
"""Where Anthropic serves at the usual price; elsewhere is a service tier, `geo_us`."""
_TICKS_PER_NANO = 10
"""xAI states cost in ticks, ten thousand million to the dollar."""


class SenselessUsage(ValueError):
    """A report that contradicts itself or what can be; the message says how."""


def openai_chat(usage: Any, service_tier: Any = None) -> Usage | None:
    """Of chat completions; cached tokens are in the input and reasoning is in the output.

    What `total_tokens` has beyond the two is explained: by reasoning that xAI counts beside its
    output, by cache tokens that are named as Anthropic names them and counted beside the input, or,
    as with Gemini's thoughts, by output that no detail names. `prompt_cache_hit_tokens` are
    DeepSeek's, `cached_tokens` beside the counts Moonshot's.
    """
    if not _reported(usage, "prompt_tokens"):
        return None
    total = _count(usage, "total_tokens")
    if usage.get("completion_tokens") is None and not total:
        return None
    into, out = _part(usage, "prompt_tokens_details"), _part(usage, "completion_tokens_details")
    prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached, reasoning = _count(into, "cached_tokens"), _count(out, "reasoning_tokens")
    written, long = _openai_writes(into)
    beside = total - prompt - output
    if usage.keys() - _PLAIN:
        read = _count(usage, "cache_read_input_tokens")
        created = _count(usage, "cache_creation_input_tokens")
        hits = _count(usage, "prompt_cache_hit_tokens"), _count(usage, "cached_tokens")
        cached = max(cached, read, *hits)
        reasoning = reasoning or _count(usage, "reasoning_tokens")
        if created > written:
            creation = _part(usage, "cache_creation")
            written, long = created, _count(creation, "ephemeral_1h_input_tokens")
        if beside > 0 and beside == read + created and beside != reasoning:
            prompt, beside = prompt + beside, 0
    return _checked(
        Usage(
            input_tokens=prompt,
            output_tokens=output + max(beside, 0),
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=long,
            reasoning_tokens=reasoning,
            audio_input_tokens=_count(into, "audio_tokens"),
            audio_output_tokens=_count(out, "audio_tokens"),
            image_input_tokens=_count(into, "image_tokens"),
            image_output_tokens=_count(out, "image_tokens"),
            service_tier=_tier(service_tier or usage.get("service_tier")),
            upstream_cost=_upstream_cost(usage),
        )
    )


def openai_responses(usage: Any, service_tier: Any = None) -> Usage | None:
    """Of OpenAI's responses; as in chat under other names."""
    if not _reported(usage, "input_tokens") or not _reported(usage, "output_tokens"):
        return None
    into, out = _part(usage, "input_tokens_details"), _part(usage, "output_tokens_details")
    prompt, output = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    written, long = _openai_writes(into)
    return _checked(
        Usage(
            input_tokens=prompt,
            output_tokens=output + max(_count(usage, "total_tokens") - prompt - output, 0),
            cached_tokens=_count(into, "cached_tokens"),
            cache_write_tokens=written,
            cache_write_1h_tokens=long,
            reasoning_tokens=_count(out, "reasoning_tokens"),
            audio_input_tokens=_count(into, "audio_tokens"),
            audio_output_tokens=_count(out, "audio_tokens"),
            image_input_tokens=_count(into, "image_tokens"),
            image_output_tokens=_count(out, "image_tokens"),
            service_tier=_tier(service_tier),
            upstream_cost=_upstream_cost(usage),
        )
    )


def anthropic_messages(*reports: Any) -> Usage | None:
    """Of Anthropic's messages; cache reads and writes are beside the input.

    A stream reports at its start and, cumulatively, at its end: give both in that order, a later
    count stands for an earlier one.
    """
    usage: dict[str, Any] = {}
    for report in reports:
        if isinstance(report, dict):
            usage |= {key: value for key, value in report.items() if value is not None}
    if not _reported(usage, "input_tokens") or not _reported(usage, "output_tokens"):
        return None
    creation = _part(usage, "cache_creation")
    long = _count(creation, "ephemeral_1h_input_tokens")
    by_lifetime = _count(creation, "ephemeral_5m_input_tokens") + long
    written = _count(usage, "cache_creation_input_tokens")
    if written and by_lifetime and written != by_lifetime:
        raise SenselessUsage("`cache_creation` does not add up to `cache_creation_input_tokens`")
    written = written or by_lifetime
    cached = _count(usage, "cache_read_input_tokens")
    tier = "fast" if usage.get("speed") == "fast" else _tier(usage.get("service_tier"))
    if usage.get("inference_geo") not in _ANYWHERE:
        tier = _tier(f"geo_{usage['inference_geo']}")
    return _checked(
        Usage(
            input_tokens=_count(usage, "input_tokens") + cached + written,
            output_tokens=_count(usage, "output_tokens"),
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=long,
            reasoning_tokens=_count(_part(usage, "output_tokens_details"), "thinking_tokens"),
            service_tier=tier,
            upstream_cost=_upstream_cost(usage),
        )
    )


def gemini(usage: Any) -> Usage | None:
    """Gemini's `usageMetadata`: the cache is in the prompt; thoughts and the prompts of tools are
    beside the counts. Details by modality say what was audio and what were images."""
    if not _reported(usage, "promptTokenCount"):
        return None
    thoughts = _count(usage, "thoughtsTokenCount")
    prompt = dict(_modalities(usage, "promptTokensDetails"))
    tools = dict(_modalities(usage, "toolUsePromptTokensDetails"))
    cached = dict(_modalities(usage, "cacheTokensDetails"))
    made = dict(_modalities(usage, "candidatesTokensDetails"))
    traffic = usage.get("trafficType")
    return _checked(
        Usage(
            input_tokens=_count(usage, "promptTokenCount")
            + _count(usage, "toolUsePromptTokenCount"),
            output_tokens=_count(usage, "candidatesTokenCount") + thoughts,
            cached_tokens=_count(usage, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
            audio_input_tokens=prompt.get("AUDIO", 0) + tools.get("AUDIO", 0),
            cached_audio_tokens=cached.get("AUDIO", 0),
            audio_output_tokens=made.get("AUDIO", 0),
            image_input_tokens=max(
                prompt.get("IMAGE", 0) + tools.get("IMAGE", 0) - cached.get("IMAGE", 0), 0
            ),
            image_output_tokens=made.get("IMAGE", 0),
            service_tier=None if traffic == "TRAFFIC_TYPE_UNSPECIFIED" else _tier(traffic),
        )
    )


# --- reading one count -----------------------------------------------------------------------


def _reported(usage: Any, field: str) -> bool:
    """Whether there is a report with this field; what is no object and not absent is senseless."""
    if usage is None:
        return False
    if not isinstance(usage, dict):
        raise SenselessUsage("usage is not an object")
    return usage.get(field) is not None


def _part(usage: dict[str, Any], field: str) -> dict[str, Any]:
    part = usage.get(field)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise SenselessUsage(f"`{field}` is not an object")
    return part


def _count(usage: dict[str, Any], field: str) -> int:
    value = usage.get(field)
    if value is None:
        return 0
    # bool is an int in Python, but `true` tokens are a mistake.
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        raise SenselessUsage(f"`{field}` is not a count of tokens")
    return value


def _modalities(usage: dict[str, Any], field: str) -> Iterator[tuple[str, int]]:
    details = usage.get(field)
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("modality"), str):
            yield detail["modality"], _count(detail, "tokenCount")


def _openai_writes(details: dict[str, Any]) -> tuple[int, int]:
    """Cache writes, and those of them that are kept for long."""
    if "cache_write_tokens" not in details:
        return 0, 0
    long = _count(_part(details, "cache_write_tokens_details"), "ttl_12h_tokens")
    return _count(details, "cache_write_tokens"), long


def _tier(tier: Any) -> str | None:
    """A tier in lower case; what is no name must not come into logs."""
    if not isinstance(tier, str) or not tier:
        return None
    return tier.lower() if _TIER.match(tier) else "unreadable"


def _upstream_cost(usage: dict[str, Any]) -> int | None:
    """Nano-dollars that the provider says it charged: OpenRouter's `cost`, Perplexity's, xAI's."""
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and ticks >= 0:
        return min(ticks // _TICKS_PER_NANO, int(_MOST_DOLLARS * NANO_PER_DOLLAR))
    stated = usage.get("cost")
    if isinstance(stated, dict):
        stated = stated.get("total_cost")
    if not isinstance(stated, int | float) or isinstance(stated, bool):
        return None
    if not math.isfinite(stated) or stated < 0:
        return None
    return round(min(stated, _MOST_DOLLARS) * NANO_PER_DOLLAR)


# --- sense -----------------------------------------------------------------------------------


def _checked(usage: Usage) -> Usage:
    """The usage, if its parts fit into their wholes; kinds overlap as little as they must."""
    if max(usage.input_tokens, usage.output_tokens) > MOST_TOKENS:
        raise SenselessUsage("more tokens than any model takes")
    known = usage.cached_tokens + usage.cache_write_tokens
    if known > usage.input_tokens:
        raise SenselessUsage("more cached tokens than input")
    if usage.cache_write_1h_tokens > usage.cache_write_tokens:
        raise SenselessUsage("more tokens written to the cache for long than written")
    if usage.audio_input_tokens > usage.input_tokens:
        raise SenselessUsage("more audio tokens than input")
    if usage.cached_audio_tokens > min(usage.cached_tokens, usage.audio_input_tokens):
        raise SenselessUsage("more cached audio tokens than cached or audio ones")
    parts = usage.reasoning_tokens, usage.audio_output_tokens + usage.image_output_tokens
    if max(parts) > usage.output_tokens or sum(parts) > usage.output_tokens:
        raise SenselessUsage("more reasoning, audio and image tokens than output")
    if usage.audio_input_tokens or usage.image_input_tokens:
        return _disjoint(usage, known)
    return usage


def _disjoint(usage: Usage, known: int) -> Usage:
    """Most dialects don't say how much of the audio or of the images was cached: what can't be
    beside the cached tokens must be among them."""
    audio, room = usage.audio_input_tokens, usage.input_tokens - known
    cached_audio = max(usage.cached_audio_tokens, audio - room)
    if cached_audio > usage.cached_tokens:
        raise SenselessUsage("more audio tokens than input that was not written to the cache")
    images = min(usage.image_input_tokens, room - (audio - cached_audio))
    return replace(usage, cached_audio_tokens=cached_audio, image_input_tokens=images)
