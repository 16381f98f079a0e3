"""Request bodies whose prompts are made from a seeded list of words, about fifty tokens each.

Unique prompts make an embedding cache of no use; repeated ones let it do all the work. Words and
sentence frames are our own and common enough that each word is one token to most tokenisers. Exam
prompts are unique too, and of a kind that the default router knows.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Literal, get_args

import orjson

from benchmarks.exam import exam_prompts

Prompts = Literal["fixed", "unique", "repeated", "exam"]
PROMPT_KINDS: tuple[str, ...] = get_args(Prompts)
REPEATED_PROMPTS = 32

_WORDS = {
    "adjective": "old new small large quick slow bright dark heavy light warm cold empty full open"
    " closed quiet loud simple complex early late young local public private modern ancient"
    " central northern southern",
    "noun": "river bridge engine station garden market library village mountain harbor factory"
    " school theater museum hospital kitchen window machine planet forest island valley castle"
    " airport tunnel tower railway signal teacher doctor farmer painter writer soldier captain"
    " judge sailor driver student",
    "verb": "builds moves opens closes watches follows paints repairs measures changes protects"
    " leaves reaches crosses visits controls describes finds keeps loses",
    "task": "Explain Describe Discuss Compare Consider Review Outline",
}
_CHOICES = {kind: words.split() for kind, words in _WORDS.items()}


def unique_prompts(seed: int) -> Iterator[str]:
    """Endless prompts of about fifty tokens; two with one text are not to be expected."""
    choice = random.Random(seed).choice

    def pick(kind: str) -> str:
        return choice(_CHOICES[kind])

    def clause() -> str:
        return (
            f"the {pick('adjective')} {pick('noun')} {pick('verb')}"
            f" the {pick('adjective')} {pick('noun')}"
        )

    while True:
        yield (
            f"{pick('task')} briefly why {clause()} when {clause()} and what happens"
            f" after {clause()} because {clause()} near the {pick('noun')}, and say what"
            " should be done."
        )


def bodies(kind: Prompts, *, model: str, stream: bool, seed: int) -> Iterator[bytes]:
    """Chat completion requests without end, as encoded JSON."""
    mark = "{prompt}"
    request = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a concise assistant."},
            {"role": "user", "content": mark},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
        "stream": stream,
    }
    before, _, after = orjson.dumps(request).decode().partition(mark)
    prompts = exam_prompts(seed) if kind == "exam" else unique_prompts(seed)
    quoted = (orjson.dumps(prompt).decode()[1:-1] for prompt in prompts)
    encoded = (f"{before}{prompt}{after}".encode() for prompt in quoted)
    if kind in ("unique", "exam"):
        return encoded
    distinct = 1 if kind == "fixed" else REPEATED_PROMPTS
    return itertools.cycle(list(itertools.islice(encoded, distinct)))
