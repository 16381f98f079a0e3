"""A composed answer before it takes the form of one body or of many events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; `arguments` is cut into tokens, and is free text for a custom tool."""

    id: str
    name: str
    arguments: list[str]
    custom: bool = False

    @property
    def kind(self) -> str:
        return "custom" if self.custom else "function"

    @property
    def argument_key(self) -> str:
        return "input" if self.custom else "arguments"


@dataclass(frozen=True, slots=True)
class Choice:
    """Either text, cut into tokens, or calls."""

    index: int
    tokens: list[str]
    calls: list[Call]
    finish_reason: str

    @property
    def token_count(self) -> int:
        return len(self.tokens) + sum(len(call.arguments) + 1 for call in self.calls)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything an upstream says to one request. `usage` is None when it keeps silent about it."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, Any] | None
    token_count: int
    """Tokens that took time to make, reasoning among them."""
    service_tier: str | None = None
    top_logprobs: int | None = None
    """How many alternatives for each token; None for no logprobs at all."""
    deltas: int | None = None
    """How many pieces of content a stream is cut into; None for one a token."""
