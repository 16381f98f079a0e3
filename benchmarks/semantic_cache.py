"""How often a semantic cache would give the answer to another question, by the similarity that it
asks for; the default of `cache.min_similarity` is chosen by it (docs/caching.md).

    python -m benchmarks.semantic_cache --data FILES... [--limit 12000]

Every prompt of a file is asked after all the others of it have been answered. As another's answer
is wrong here, each answer from the cache is a false hit; prompts that differ in nothing but case
and spaces count as one. Multiple-choice prompts are taken whole, and their bare questions beside
them. `reworded` is the other side: the share of the same prompts that are found again when they are
asked with small changes of wording, which leave their meaning alone.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.compiling import router_directory
from app.delivery.cache.likeness import signature
from app.delivery.cache.nearest import Asked, Nearest
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.routing.encoder.onnx import OnnxEncoder
from benchmarks.machine import describe

LEVELS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
_OPTIONS = re.compile(r"\n\s*(?:\(?A[.):]|Options:|Choices:)", re.IGNORECASE)
_BLOCK = 512

REWORDINGS: dict[str, Callable[[str], str]] = {
    "please in front": lambda text: "Please " + text[:1].lower() + text[1:],
    "a question announced": lambda text: "I have a question: " + text,
    "thanks behind": lambda text: text + " Thanks!",
    "no last mark": lambda text: text.rstrip(".?! "),
    "all small letters": str.lower,
    "the left out": lambda text: re.sub(r"\b[Tt]he ", "", text),
}


def main() -> None:
    options = _options()
    encoder = OnnxEncoder(router_directory("encoder-minilm", Path()))
    cache = EmbeddingCache(default_cache(), encoder.fingerprint)
    told: dict[str, Any] = {}
    for file in options.data:
        for name, texts in _sets(file, options.limit):
            signed = [(text, mark) for text in texts if (mark := signature(text))]
            marks = np.array([int.from_bytes(mark, "big") for _, mark in signed], dtype=np.uint64)
            vectors = embed_all(encoder, [text for text, _ in signed], cache)
            told[name] = {
                "prompts": len(texts),
                "comparable": len(signed),
                "false_hits": _false_hits(vectors, marks),
                "reworded": {
                    how: _found(encoder, signed, vectors, reworded, options.reworded)
                    for how, reworded in REWORDINGS.items()
                },
            }
    report = {"machine": describe(), "sets": told, "search": _search()}
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _sets(file: Path, limit: int) -> Iterator[tuple[str, list[str]]]:
    with gzip.open(file) as lines:
        prompts = [orjson.loads(line)["prompt"].strip() for line in lines]
    name = file.name.partition(".")[0]
    yield name, _distinct(prompts)[:limit]
    bare = [_OPTIONS.split(prompt)[0].removeprefix("Question:").strip() for prompt in prompts]
    if sum(map(len, bare)) < 0.9 * sum(map(len, prompts)):
        yield f"{name}, no options", _distinct(bare)[:limit]


def _distinct(texts: list[str]) -> list[str]:
    return list({" ".join(re.findall(r"\w+", text.lower())): text for text in texts}.values())


def _false_hits(vectors: NDArray[np.float32], marks: NDArray[np.uint64]) -> dict[str, Any]:
    """By level, the shares of prompts to which another's answer would be given: by the vector
    alone, and with the guard."""
    alone, guarded = np.zeros(len(vectors)), np.zeros(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        alike = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(alike))
        alike[rows, start + rows] = -1
        alone[start : start + len(alike)] = alike.max(axis=1)
        alike[marks[start : start + len(alike), None] != marks[None, :]] = -1
        guarded[start : start + len(alike)] = alike.max(axis=1)
    return {
        f"{level:.2f}": {
            "vector": round(float((alone >= level).mean()), 5),
            "guarded": round(float((guarded >= level).mean()), 5),
        }
        for level in LEVELS
    }


def _found(
    encoder: OnnxEncoder,
    signed: list[tuple[str, bytes]],
    vectors: NDArray[np.float32],
    reworded: Callable[[str], str],
    count: int,
) -> dict[str, Any]:
    """By level, the share of reworded prompts that are found."""
    step = max(len(signed) // count, 1)
    rows = [
        row for row in range(0, len(signed), step) if reworded(signed[row][0]) != signed[row][0]
    ]
    if not rows:
        return {}
    texts = [reworded(signed[row][0]) for row in rows]
    same = np.array([signature(t) == signed[row][1] for t, row in zip(texts, rows, strict=True)])
    alike = (embed_all(encoder, texts) * vectors[rows]).sum(axis=1)
    return {
        "guard_passes": round(float(same.mean()), 3),
        **{f"{level:.2f}": round(float((same & (alike >= level)).mean()), 3) for level in LEVELS},
    }


def _search(questions: int = 5_000, searches: int = 500) -> dict[str, float]:
    """How long it takes to look into a group of questions, in milliseconds."""
    dice = np.random.default_rng(7)
    vectors = dice.normal(size=(questions, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = Nearest(questions)
    for row, vector in enumerate(vectors):
        nearest.add(b"group", Asked(row.to_bytes(16, "big"), b"same"), vector)
    times = []
    for vector in vectors[:searches]:
        started = perf_counter()
        assert next(iter(nearest.like(b"group", vector, b"same", 0.9)))
        times.append((perf_counter() - started) * 1_000)
    return {"questions": questions, "median_ms": round(float(np.median(times)), 3)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=12_000, help="Prompts of each set.")
    parser.add_argument("--reworded", type=int, default=200, help="Prompts that are reworded.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
