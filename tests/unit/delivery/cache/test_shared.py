"""What is told to other gateways, and what is too much for the Redis that counts limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.delivery.cache.entry import Entry
from app.delivery.cache.shared import MOST_BYTES, SharedAnswers


class Noting:
    """A Redis that notes which commands come."""

    def __init__(self) -> None:
        self.asked: list[str | bytes | float] = []

    def key(self, name: str) -> str:
        return name

    async def ask(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any] | None:
        self.asked += [command[0] for command in commands]
        return None


async def test_an_answer_that_would_hold_up_the_counters_stays_here() -> None:
    """What does not arrive in Redis' short time-out has limits taken for unreachable."""
    redis = Noting()
    shared = SharedAnswers(redis)
    for size in (MOST_BYTES + 1, MOST_BYTES):
        await shared.put(b"k", Entry("whole", b"x" * size, "m", None, 0.0), 60)
    assert redis.asked == ["SET"]
