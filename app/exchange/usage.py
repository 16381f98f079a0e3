"""What one upstream call used, as that upstream reported it."""

from __future__ import annotations

from dataclasses import dataclass


# Not frozen: that would make it four times as dear to build, and one is built for every call.
@dataclass(slots=True)
class Usage:
    """Token counts of one call, in one form for every dialect.

    `input_tokens` and `output_tokens` are everything that went in and came out. The others are
    parts of them: cached, cache-written, audio and image tokens of the input; reasoning, audio and
    image tokens of the output. `cache_write_1h_tokens` are those of `cache_write_tokens` that were
    written for an hour or longer, `cached_audio_tokens` those that are both cached and audio, and
    `image_input_tokens` are not cached. `app.wire.usage` adds what a dialect counts beside.

    `service_tier` is how the call was served, None for the usual way. `upstream_cost`, in
    nano-dollars, is what the upstream says that it charged: kept, and never believed.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    cached_audio_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    service_tier: str | None = None
    upstream_cost: int | None = None
