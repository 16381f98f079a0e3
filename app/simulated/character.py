"""How each simulated model behaves when nothing is scripted: how much it says and how fast.

The delays are far below those of real models, so that a demo of a hundred requests takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Character:
    """`words` is about the length of an answer."""

    words: int = 30
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0


DEFAULT = Character()

CHARACTERS = {
    "sim-small": Character(words=40, first_token_seconds=0.010, token_seconds=0.0005),
    "sim-medium": Character(words=70, first_token_seconds=0.020, token_seconds=0.001),
    "sim-large": Character(words=110, first_token_seconds=0.040, token_seconds=0.002),
}


def character_of(model: str) -> Character:
    return CHARACTERS.get(model, DEFAULT)
