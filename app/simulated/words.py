"""Text that is made up, yet the same for the same request, cut into the tokens of its usage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_TOKEN = re.compile(r"\s*\S{1,8}|\s+")
_QUOTED_CHARACTERS = 60
_TEXT = (
    "the answer here is only a stand in for what real model would say about this so read it "
    "as filler with right length and timing that lets you see where each request goes how much "
    "it costs and how streams errors tools behave before any provider has been paid for work"
)
_VOCABULARY = _TEXT.split()


def tokens_of(text: str) -> list[str]:
    """Cut a text into simulated tokens; joined again they are the text."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """About how many tokens a real tokenizer would see: one for four bytes."""
    size = len(text) if text.isascii() else len(text.encode())
    return (size + 3) // 4


def filler(model: str, question: str, words: int, seed: int) -> str:
    """An answer of about `words` words that names its model and quotes the question."""
    quoted = " ".join(question[: 4 * _QUOTED_CHARACTERS].split())[:_QUOTED_CHARACTERS]
    about = f' This stands in for an answer to "{quoted}".' if quoted else ""
    return f"[simulated {model}]{about} {' '.join(_take(words, seed))}."


def _take(words: int, seed: int) -> Iterator[str]:
    state = seed
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        yield _VOCABULARY[(state >> 33) % len(_VOCABULARY)]


def cut_into(tokens: list[str], parts: int) -> list[str]:
    """Join tokens into `parts` pieces; where they are too few, cut between characters."""
    if parts > len(tokens):
        tokens = list("".join(tokens))
    parts = min(parts, len(tokens))
    edges = [index * len(tokens) // parts for index in range(parts + 1)] if parts else []
    return ["".join(tokens[low:high]) for low, high in pairwise(edges)]
