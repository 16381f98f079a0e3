"""Made-up outcomes with known truth, and an encoder without weights: for tests, and to try commands
without data.

A prompt is words of one topic; a model answers it right with probability sigmoid(ability + ease of
the topic + its own bent for the topic). What a router should learn is thus known exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.lab.outcomes import Outcome, OutcomeRow, OutcomeTable, split
from app.lab.train import TrainSettings, train, write_router

TOPICS: Mapping[str, tuple[float, str]] = {
    "sums": (1.5, "add total apples price change count each more left basket"),
    "proofs": (-1.5, "prove lemma bounded compact topology converge field ring ideal norm"),
    "letters": (1.0, "write polite letter friend thanks invite party greet warm note"),
    "law": (-0.5, "court contract statute liable appeal clause tort duty breach remedy"),
}
"""Ease of each topic, and its words."""

ABILITIES: Mapping[str, float] = {"small": -0.5, "medium": 0.3, "large": 1.6}
BENT = {("small", "letters"): 1.5, ("medium", "law"): 0.8}


class WordEncoder:
    """Each word is a fixed random direction; a text is their sum, of unit length."""

    dimensions = 32
    fingerprint = "synthetic-words-1"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimensions))
        for row, text in enumerate(texts):
            vectors[row] = sum((_direction(w, self.dimensions) for w in text.split()), np.zeros(1))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def synthetic_rows(
    count: int, seed: int, models: Sequence[str] = tuple(ABILITIES), source: str = "synthetic"
) -> list[OutcomeRow]:
    """`count` prompts, each answered by these models."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[int(rng.integers(len(TOPICS)))]
        words = [str(w) for w in rng.choice(TOPICS[topic][1].split(), 6)]
        outcomes = {
            model: Outcome(
                score=float(rng.random() < true_quality(model, topic)),
                output_tokens=float(rng.integers(50, 100) * (2 if model == "large" else 1)),
            )
            for model in models
        }
        prompt = f"{' '.join(words)} number {seed}-{number}"
        rows.append(OutcomeRow(f"{source}/{seed}/{number}", source, topic, prompt, outcomes))
    return rows


def true_quality(model: str, topic: str) -> float:
    """What the model scores on prompts of the topic, on average."""
    logit = ABILITIES[model] + TOPICS[topic][0] + BENT.get((model, topic), 0.0)
    return float(1.0 / (1.0 + np.exp(-logit)))


def train_synthetic(table: OutcomeTable, out: Path, seed: int = 0) -> None:
    """Trains a router on synthetic rows as the train command would, with the word encoder."""
    encoder = WordEncoder()
    settings = TrainSettings(seed=seed)
    rows, _ = split(table, settings.test_share)
    router = train(rows, encoder.encode(rows.prompts), settings)
    entry = {
        "name": "words",
        "fingerprint": encoder.fingerprint,
        "dimensions": encoder.dimensions,
        "source": "app.lab.synthetic",
    }
    write_router(router, out, entry, {"command": "train_synthetic"})


def _direction(word: str, dimensions: int) -> NDArray[np.float64]:
    seed = int.from_bytes(
        blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )
    direction = np.random.default_rng(seed).standard_normal(dimensions)
    return direction / float(np.linalg.norm(direction))
