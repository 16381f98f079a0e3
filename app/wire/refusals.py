"""What a refusal is about, in each provider's wording: a request that is too long, or its content.

The codes are what providers document, and the wordings what they are seen to answer; a refusal that
is in none of these is one of the request itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

_MOST_BYTES = 64 * 1024
"""Of a refusal that are read: none is longer."""

_MOST_DIGITS = 12
"""Of a window."""

_TOO_LONG_CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Azure, Groq, DeepSeek, OpenRouter
        "exceed_context_size_error",  # llama.cpp, as its type
        "model_max_prompt_tokens_exceeded",  # GitHub Models
    }
)
# ruff: noqa: ISC004 - a pattern may be longer than a line
_TOO_LONG = re.compile(
    "|".join(
        [
            # OpenAI, Azure, DeepSeek, vLLM, SGLang, OpenRouter
            r"maximum context length (?:is|of) (?P<a>[\d,]+)",
            r"exceeds? (?:the|this) (?:model'?s )?(?:maximum )?context (?:window|length|size)",
            # Anthropic: N tokens > M maximum; Bedrock without the figures
            r"prompt is too long(?:: [\d,]+ tokens > (?P<b>[\d,]+))?",
            r"input length and `?max_tokens`? exceed context limit",
            r"input is too long(?: for (?:the )?requested model)?",
            # Gemini: (N) exceeds the maximum number of tokens allowed (M)
            r"input token count\b.{0,40}?exceeds the maximum number of tokens"
            r"(?: allowed \((?P<c>[\d,]+)\))?",
            # Mistral
            r"too large for model with (?P<d>[\d,]+) maximum context length",
            # Together and Hugging Face's servers
            r"inputs`?(?: tokens)?(?: \+ `?max_new_tokens`?)?"
            r" must (?:be <=|have less than) (?P<e>[\d,]+)",
            # xAI
            r"maximum prompt length is (?P<f>[\d,]+)",
            # Groq
            r"reduce the length of the (?:messages|prompt|input)",
            # Cohere
            r"too many tokens: .{0,120}?(?:limit|exceed)",
            r"total number of tokens .{0,80}?(?:exceed|cannot exceed)",
            # llama.cpp, Ollama, LM Studio
            r"exceeds? the available context size",
            r"input length exceeds (?:the )?(?:maximum )?context length",
            r"greater than the context length",
            # Amazon's and Moonshot's models, MiniMax
            r"too many input tokens",
            r"exceeded model token limit: (?P<g>[\d,]+)",
            r"context window exceeds limit",
        ]
    ),
    re.IGNORECASE | re.DOTALL,
)

_CONTENT_CODES = frozenset(
    {
        "content_filter",  # Azure
        "responsibleaipolicyviolation",  # Azure, inside
        "content_policy_violation",  # OpenAI
        "moderation_blocked",  # OpenAI, images
        "data_inspection_failed",  # Alibaba
        "datainspectionfailed",
        "1301",  # Zhipu
    }
)
_CONTENT = re.compile(
    "|".join(
        [
            r"content management policy",  # Azure
            r"rejected as a result of our safety system",  # OpenAI
            r"violat\w+ (?:of )?(?:our|the|its) (?:usage|content) polic",
            r"output blocked by content filtering policy",  # Anthropic
            r"content exists risk",  # DeepSeek
            r"violates (?:usage|safety) guidelines",  # xAI
            r"requires moderation on .{0,80} flagged",  # OpenRouter
            r"blocked (?:by|due to) (?:the |our )?(?:safety|content|guardrail|prohibited)",
            r"prohibited_content",  # Gemini
        ]
    ),
    re.IGNORECASE | re.DOTALL,
)


class TooLong(NamedTuple):
    """`window` is the most tokens that the model takes, where it was said."""

    window: int | None


class OfContent(NamedTuple):
    """The provider does not want to answer this."""


def about(body: bytes) -> TooLong | OfContent | None:
    """What the refusal in a body is about; None if it is about anything else."""
    codes, text = _read(body[:_MOST_BYTES])
    if codes & _CONTENT_CODES:
        return OfContent()
    match = _TOO_LONG.search(text)
    if match or codes & _TOO_LONG_CODES:
        return TooLong(_number(match))
    return OfContent() if _CONTENT.search(text) else None


def _read(body: bytes) -> tuple[set[str], str]:
    """Codes and types of an error, in lower case, and its text; of any shape that is JSON."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return set(), ""
    if isinstance(payload, list) and payload:
        payload = payload[0]  # Gemini's
    codes: set[str] = set()
    texts: list[str] = []
    _walk(payload, codes, texts, 4)
    return codes, "\n".join(texts)


def _walk(value: Any, codes: set[str], texts: list[str], depth: int) -> None:
    if not isinstance(value, Mapping):
        return
    for key in ("code", "type", "reason"):
        if isinstance(value.get(key), str | int):
            codes.add(str(value[key]).lower())
    found = [value.get(key) for key in ("message", "detail", "msg", "error")]
    texts += [each for each in found if isinstance(each, str)]
    if depth:
        for key in ("error", "innererror", "metadata", "detail"):
            _walk(value.get(key), codes, texts, depth - 1)


def _number(match: re.Match[str] | None) -> int | None:
    if match is None:
        return None
    said = next((each for each in match.groups() if each), None)
    digits = said.replace(",", "") if said else ""
    # Python refuses to read a number of thousands of digits, and no window has so many.
    return int(digits) if 0 < len(digits) <= _MOST_DIGITS else None
