"""What a prompt costs: its tokens by a plain rule, and those that a prompt cache would spare."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import orjson

from app.simulated.words import count_tokens

MESSAGE_TOKENS = 4
CACHED_FROM_TOKENS = 1024
CACHED_IN_STEPS_OF = 128
_IMAGE_TOKENS = {"low": 85}
_IMAGE_TOKENS_HIGH = 765
_KEPT_PREFIXES = 20_000


def count_prompt(payload: dict[str, Any]) -> list[int]:
    """Tokens of the tools, then of each message; their sum is `prompt_tokens`."""
    return [_count_json(payload.get("tools")), *map(_count_message, payload["messages"])]


def _count_message(message: dict[str, Any]) -> int:
    tokens = MESSAGE_TOKENS + _count_content(message.get("content"))
    if "tool_calls" in message:
        tokens += _count_json(message["tool_calls"])
    return tokens


def _count_content(content: Any) -> int:
    if isinstance(content, str):
        return count_tokens(content)
    if isinstance(content, list):
        return sum(map(_count_part, content))
    return 0


def _count_part(part: Any) -> int:
    if not isinstance(part, dict):
        return _count_json(part)
    if isinstance(part.get("text"), str):
        return count_tokens(part["text"])
    if part.get("type") == "image_url":
        image = part.get("image_url")
        detail = image.get("detail") if isinstance(image, dict) else None
        return _IMAGE_TOKENS.get(str(detail), _IMAGE_TOKENS_HIGH)
    return _count_json(part)


def _count_json(value: Any) -> int:
    return count_tokens(orjson.dumps(value).decode()) if value else 0


class PromptCache:
    """Prefixes of whole messages that a model has seen; the least recently used are forgotten."""

    def __init__(self, kept_prefixes: int = _KEPT_PREFIXES) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._kept_prefixes = kept_prefixes

    def cached_tokens(self, payload: dict[str, Any], counts: list[int]) -> int:
        """Tokens of the longest prefix seen before, in the steps in which providers count them.

        Remembers this prompt's own prefixes as well.
        """
        if sum(counts) < CACHED_FROM_TOKENS:
            return 0
        longest = 0
        for digest, tokens in _prefixes(payload, counts):
            if digest in self._seen:
                longest = tokens
            self._remember(digest)
        return longest - longest % CACHED_IN_STEPS_OF

    def clear(self) -> None:
        self._seen.clear()

    def _remember(self, digest: bytes) -> None:
        self._seen[digest] = None
        self._seen.move_to_end(digest)
        if len(self._seen) > self._kept_prefixes:
            self._seen.popitem(last=False)


def _prefixes(payload: dict[str, Any], counts: list[int]) -> Iterator[tuple[bytes, int]]:
    """Digest and size of each prefix that is long enough to be cached, shortest first."""
    state = blake2b(str(payload["model"]).encode(), digest_size=16)
    tokens = 0
    for part, count in zip([payload.get("tools"), *payload["messages"]], counts, strict=True):
        state.update(orjson.dumps(part))
        tokens += count
        if tokens >= CACHED_FROM_TOKENS:
            yield state.digest(), tokens
