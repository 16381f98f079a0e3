"""What upstreams report is read, or unknown, or senseless; golden costs are in `accounting`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exchange.usage import Usage
from app.wire.usage import (
    MOST_TOKENS,
    SenselessUsage,
    anthropic_messages,
    gemini,
    openai_chat,
    openai_responses,
)

READERS = (openai_chat, openai_responses, anthropic_messages, gemini)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(5, 7)),
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1015}, Usage(10, 1005)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, Usage(10, 5)),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(5, 1)),
        (None, None),
        ({}, None),
    ],
)
def test_chat_usage_is_read_or_unknown(usage: Any, expected: Usage | None) -> None:
    assert openai_chat(usage) == expected


def chat(**fields: Any) -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": 1, **fields}


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (3, "not an object"),
        ([], "not an object"),
        (chat(prompt_tokens=-1), "`prompt_tokens` is not a count"),
        (chat(prompt_tokens=1.5), "`prompt_tokens` is not a count"),
        (chat(prompt_tokens="5"), "`prompt_tokens` is not a count"),
        (chat(completion_tokens=True), "`completion_tokens` is not a count"),
        (chat(completion_tokens=MOST_TOKENS + 1), "`completion_tokens` is not a count"),
        (chat(prompt_tokens_details=3), "`prompt_tokens_details` is not an object"),
        (chat(prompt_tokens_details={"cached_tokens": 6}), "more cached tokens than input"),
        (chat(prompt_tokens_details={"audio_tokens": 6}), "more audio tokens than input"),
        (
            chat(prompt_tokens_details={"audio_tokens": 3, "cache_write_tokens": 3}),
            "more audio tokens than input that was not written",
        ),
        (
            chat(
                prompt_tokens_details={
                    "cache_write_tokens": 1,
                    "cache_write_tokens_details": {"ttl_12h_tokens": 2},
                }
            ),
            "for long than written",
        ),
        (chat(completion_tokens_details={"reasoning_tokens": 2}), "than output"),
        (
            chat(completion_tokens_details={"reasoning_tokens": 1, "audio_tokens": 1}),
            "than output",
        ),
    ],
    ids=str,
)
def test_senseless_usage_says_what_is_wrong(usage: Any, said: str) -> None:
    with pytest.raises(SenselessUsage, match=said):
        openai_chat(usage)


def test_lifetimes_that_do_not_add_up_are_senseless() -> None:
    creation = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1}
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 3}
    with pytest.raises(SenselessUsage, match="does not add up"):
        anthropic_messages({**usage, "cache_creation": creation})
    details = [{"modality": "AUDIO", "tokenCount": 2}]
    with pytest.raises(SenselessUsage, match="more cached audio"):
        gemini({"promptTokenCount": 5, "cacheTokensDetails": details})


@pytest.mark.parametrize(
    "cost", [-1, True, "0.1", float("nan"), float("inf"), {"total_cost": None}]
)
def test_a_cost_that_is_none_is_not_noted(cost: Any) -> None:
    usage = openai_chat(chat(cost=cost))
    assert usage is not None
    assert usage.upstream_cost is None


def test_the_upstreams_cost_is_noted_within_reason() -> None:
    for cost, noted in ((0.95, 950_000_000), (1e300, 10**18), (0, 0)):
        usage = openai_chat(chat(cost=cost))
        assert usage is not None
        assert usage.upstream_cost == noted


NAMES = st.sampled_from(
    [
        "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
        "cached_tokens", "prompt_tokens_details", "completion_tokens_details", "cost",
        "input_tokens_details", "cache_creation", "cache_creation_input_tokens",
        "cache_read_input_tokens", "promptTokenCount", "candidatesTokenCount",
        "thoughtsTokenCount", "promptTokensDetails", "cacheTokensDetails",
        "cachedContentTokenCount", "audio_tokens", "image_tokens", "reasoning_tokens",
        "cache_write_tokens", "modality", "tokenCount", "service_tier", "trafficType", "speed",
        "cost_in_usd_ticks", "prompt_cache_hit_tokens",
    ]
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.integers()
    | st.floats()
    | st.sampled_from(["AUDIO", "IMAGE", "fast", "flex", ""]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_reported_is_whole_or_refused(report: Any) -> None:
    for reader in READERS:
        try:
            usage = reader(report)
        except SenselessUsage:
            continue
        if usage is None:
            continue
        rest = (
            usage.input_tokens
            - usage.cached_tokens
            - usage.cache_write_tokens
            - (usage.audio_input_tokens - usage.cached_audio_tokens)
            - usage.image_input_tokens
        )
        spoken = usage.audio_output_tokens + usage.image_output_tokens + usage.reasoning_tokens
        assert rest >= 0
        assert spoken <= usage.output_tokens <= MOST_TOKENS
        assert 0 <= usage.cache_write_1h_tokens <= usage.cache_write_tokens
        assert usage.cached_audio_tokens <= usage.cached_tokens
