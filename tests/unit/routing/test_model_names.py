"""One model, many spellings."""

import pytest

from app.routing.model_names import ModelNames, canonical_name

KNOWN = [
    "Meta-Llama-3.1-70B-Instruct",
    "gpt-4o-2024-05-13",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
    "claude-3-haiku-20240307",
    "Llama-3.1-405B-Inst",
]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B-Instruct-v0.1"),
        ("Meta-Llama-3_1-70B-Instruct", "Meta-Llama-3.1-70B-Instruct"),
        ("Llama-3.1-405B-Inst@sambanova", "Llama-3.1-405B-Inst"),
        (" gpt-4o ", "gpt-4o"),
        ("org/", "org/"),
    ],
)
def test_canonical_name(written: str, canonical: str) -> None:
    assert canonical_name(written) == canonical


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "Meta-Llama-3.1-70B-Instruct"),
        ("META-LLAMA-3_1-70b-instruct", "Meta-Llama-3.1-70B-Instruct"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("claude-3-haiku", "claude-3-haiku-20240307"),
        ("Llama-3.1-405B-Instruct", "Llama-3.1-405B-Inst"),
        ("gpt-4", None),
        ("", None),
    ],
)
def test_finds_the_model_a_name_means(asked: str, found: str | None) -> None:
    assert ModelNames(KNOWN).find(asked) == found
