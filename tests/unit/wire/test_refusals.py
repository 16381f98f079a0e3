"""A request that is too long, and content that is not wanted, in each provider's wording."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.wire.refusals import OfContent, TooLong, about


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


TOO_LONG: list[tuple[str, Any, int | None]] = [
    (
        "openai",
        said(
            "This model's maximum context length is 128000 tokens. However, your messages resulted"
            " in 140000 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        128_000,
    ),
    (
        "openai, newer",
        said(
            "Your input exceeds the context window of this model. Please adjust your input.",
            code="context_length_exceeded",
        ),
        None,
    ),
    ("azure", said("Too long.", code="context_length_exceeded"), None),
    (
        "anthropic",
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 213462 tokens > 200000 maximum",
            },
        },
        200_000,
    ),
    (
        "anthropic, with the output",
        said("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
        None,
    ),
    (
        "gemini",
        [
            {
                "error": {
                    "code": 400,
                    "status": "INVALID_ARGUMENT",
                    "message": "The input token count (1196265) exceeds the maximum number of "
                    "tokens allowed (1048575).",
                }
            }
        ],
        1_048_575,
    ),
    (
        "mistral",
        {
            "object": "error",
            "type": "invalid_request_error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with "
            "32768 maximum context length",
        },
        32_768,
    ),
    (
        "vllm",
        {
            "object": "error",
            "type": "BadRequestError",
            "code": 400,
            "message": "This model's maximum context length is 8192 tokens. However, you requested "
            "9000 tokens (8000 in the messages, 1000 in the completion).",
        },
        8_192,
    ),
    (
        "together",
        said("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097."),
        4_097,
    ),
    (
        "groq",
        said(
            "Please reduce the length of the messages or completion.",
            param="messages",
            code="context_length_exceeded",
        ),
        None,
    ),
    ("bedrock", {"message": "Input is too long for requested model."}, None),
    (
        "cohere",
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - "
            "received 4292."
        },
        None,
    ),
    (
        "deepseek",
        said(
            "This model's maximum context length is 65536 tokens. However, you requested 70000 "
            "tokens (66000 in the messages, 4000 in the completion)."
        ),
        65_536,
    ),
    (
        "llama.cpp",
        {
            "error": {
                "code": 400,
                "type": "exceed_context_size_error",
                "message": "the request exceeds the available context size, try increasing it",
                "n_ctx": 4096,
            }
        },
        None,
    ),
    ("ollama", said("input length exceeds maximum context length"), None),
    (
        "xai",
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 537812 "
            "tokens.",
        },
        131_072,
    ),
    (
        "openrouter",
        said(
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "50000 tokens.",
            code=400,
        ),
        32_768,
    ),
    ("no number", said(f"This model's maximum context length is {'9' * 5_000} tokens."), None),
]


@pytest.mark.parametrize(
    ("body", "window"), [t[1:] for t in TOO_LONG], ids=[t[0] for t in TOO_LONG]
)
def test_too_long(body: Any, window: int | None) -> None:
    assert about(orjson.dumps(body)) == TooLong(window)


OF_CONTENT: list[tuple[str, Any]] = [
    (
        "azure",
        said(
            "The response was filtered due to the prompt triggering Azure OpenAI's content "
            "management policy.",
            code="content_filter",
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
    ),
    ("openai", said("Refused.", code="content_policy_violation")),
    (
        "openai, reasoning",
        said(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            code="invalid_prompt",
        ),
    ),
    ("anthropic", said("Output blocked by content filtering policy")),
    ("deepseek", said("Content Exists Risk")),
    (
        "alibaba",
        said("Input data may contain inappropriate content.", code="data_inspection_failed"),
    ),
    ("xai", {"code": "denied", "error": "Content violates usage guidelines."}),
    (
        "openrouter",
        {
            "error": {
                "code": 403,
                "message": "vendor/model requires moderation on Vendor. Your input was flagged.",
                "metadata": {"reasons": ["violence"]},
            }
        },
    ),
]


@pytest.mark.parametrize("body", [o[1] for o in OF_CONTENT], ids=[o[0] for o in OF_CONTENT])
def test_of_content(body: Any) -> None:
    assert about(orjson.dumps(body)) == OfContent()


@pytest.mark.parametrize(
    "body",
    [
        said("'temperature' must be at most 2."),
        said("Invalid 'tools[0].function.name': string does not match pattern."),
        said("Incorrect API key provided.", code="invalid_api_key"),
        said("you must provide a model parameter"),
        said(
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens."
        ),
        said(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested "
            "7000, please reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        {"error": None},
        [],
        "prompt is too long",
    ],
)
def test_any_other_refusal(body: Any) -> None:
    assert about(orjson.dumps(body)) is None


@pytest.mark.parametrize("body", [b"", b"<html>prompt is too long</html>", b"\xff\xfe", b"{"])
def test_what_is_not_json_says_nothing(body: bytes) -> None:
    assert about(body) is None
