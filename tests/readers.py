"""A router whose every answer is known: it reads words, and says something else once it sees a
vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.synthetic import WordEncoder
from app.routing.estimators.base import Candidate, Estimate, Neighbour, Query


class Reader:
    """By its words a prompt is easy for all candidates, and with its vector only the last of them
    is any good: so the choice tells what it was made from.

    The doubt of the words is small, but large where they say "unclear"; "novel" is novel.
    """

    def __init__(self, models: Sequence[str], *, reads_text: bool = True) -> None:
        self.reads_text = reads_text
        self.asked: list[Query] = []
        self._models = tuple(models)

    def estimate(self, query: Query) -> Estimate:
        self.asked.append(query)
        quality = np.full(len(self._models), 0.9)
        doubt = None
        if query.vector is not None:
            quality[:-1] = 0.4
        elif self.reads_text:
            doubt = np.full(len(quality), 0.3 if "unclear" in query.text else 0.01)
        return Estimate(
            models=self._models,
            quality=quality,
            support=np.full(len(quality), 1e6),
            output_tokens=np.full(len(quality), 100.0),
            novelty=0.9 if "novel" in query.text else 0.1,
            doubt=doubt,
        )

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        if query.vector is None:
            return ()
        return tuple(Neighbour(f"n{i}", "task", 0.9, {}) for i in range(count))


class ReaderArtifact:
    """Stands for a router directory."""

    models = all_models = ("small", "large")
    encoder_fingerprint = WordEncoder.fingerprint

    def __init__(self, *, reads_text: bool = True) -> None:
        self._reads_text = reads_text

    def knows(self, name: str) -> str | None:
        return name

    def estimator(self, candidates: Sequence[Candidate]) -> Any:
        return Reader([c.name for c in candidates], reads_text=self._reads_text)


class CountingEncoder(WordEncoder):
    """Keeps what it was asked to encode."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        if "broken" in texts[0]:
            raise RuntimeError("cannot encode")
        return super().encode(texts)
