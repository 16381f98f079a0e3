"""What one upstream call used, as that upstream reported it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call.

    `input_tokens` includes the cached and cache-written ones and `output_tokens` includes
    reasoning, as OpenAI counts; dialects that count beside it are brought to this form by `wire`.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def fresh_tokens(self) -> int:
        """Input tokens at the full input price."""
        return self.input_tokens - self.cached_tokens - self.cache_write_tokens
