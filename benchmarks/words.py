"""What the words alone settle, and what they know to be strange: shares of prompts that a router
has not seen, and of everyday requests of our own.

    python -m benchmarks.words --data FILES... [--config configs/demo.yaml] [--limit 300]

For each source, of prompts whose question the router was not trained on: the share that the route
would encode, the margin that it settled at, the share that its words alone would send elsewhere
than its vector does, the shares that either calls strange, and where all candidates were scored
what the chosen ones scored and were expected to cost. A source that the router knows should rarely
be strange; one that it does not know, and everyday requests, should be.
"""

from __future__ import annotations

import argparse
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.compiling import compile_config, router_directory
from app.config.load import load
from app.exchange.money import NANO_PER_DOLLAR
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.held_out import held_out
from app.lab.outcomes import build_table, read_outcomes
from app.lab.trial import Unscorable
from app.routing.artifact import load_artifact
from app.routing.decision import Decision, decide
from app.routing.encoder.base import Encoder
from app.routing.estimators.base import Query, Vector
from app.routing.facts import inspect
from app.routing.names import DEFAULT_ROUTE
from app.routing.route import Route
from app.routing.two_speed import FAMILIAR, clear
from benchmarks.machine import describe

SETTLING = 4
"""Passes over the prompts, of which the last is reported."""

EVERYDAY = (
    "hi",
    "thanks!",
    "ok",
    "hello, how are you today?",
    "can you help me",
    "what is the weather",
    "Tell me a joke about cats",
    "write a haiku about the sea",
    "who won the world cup in 2018",
    "Translate 'good morning' into French",
    "plan a three day trip to Lisbon",
    "explain recursion like I am five",
    "Give me five names for a coffee shop",
    "fix the grammar: he go to school yesterday",
    "Compose a tweet announcing our new product.",
    "What should I cook for dinner with chicken and rice?",
    "Write a polite email to my landlord about the broken heating.",
    "Summarise the following meeting notes in three bullet points: ...",
    "Refactor this Python function to use asyncio and add retries with backoff.",
    "asdf qwer zxcv uiop",
)


def main() -> None:
    options = _options()
    compiled = compile_config(load(options.config))
    route, encoder = compiled.names.routes[DEFAULT_ROUTE], compiled.encoder
    if encoder is None or not route.estimator.reads_text:
        raise SystemExit(f"{options.config}: `{DEFAULT_ROUTE}` has no router that reads text")
    written = compiled.config.routes[DEFAULT_ROUTE].router or ""
    artifact = load_artifact(router_directory(written, options.config.parent))
    table = build_table(read_outcomes(options.data), merge=False)
    fresh: Any = np.empty(0, dtype=np.intp)
    try:
        fresh = held_out(artifact, table).fresh
    except Unscorable as reason:
        print(reason)
    cache = EmbeddingCache(default_cache(), encoder.fingerprint)
    known = [compiled.config.models[model.name].like or model.name for model in route.candidates]
    columns = [table.models.index(name) if name in table.models else None for name in known]
    order = np.random.default_rng(0)
    told = {"everyday, of our own": _shares(_anew(route), encoder, list(EVERYDAY), cache)}
    sources = np.array(table.sources)
    for source in sorted(set(sources[fresh].tolist())):
        rows = fresh[sources[fresh] == source]
        some = order.permutation(rows)[: options.limit]
        scores = None if None in columns else table.scores[some][:, np.array(columns, dtype=int)]
        prompts = [table.prompts[row] for row in some]
        told[source] = _shares(_anew(route), encoder, prompts, cache, scores)
    report = {"machine": describe(), "config": str(options.config), "sources": told}
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _anew(route: Route) -> Route:
    """The route with a margin that has counted nothing, under the configuration's terms."""
    return replace(route, margin=copy(route.margin))


def _shares(
    route: Route,
    encoder: Encoder,
    prompts: list[str],
    cache: EmbeddingCache,
    scores: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """`scores` (n, M) of the route's candidates, nan where there is none."""
    vectors = embed_all(encoder, prompts, cache)
    seen = [_looked(route, prompt, vector) for prompt, vector in zip(prompts, vectors, strict=True)]
    # The margin has settled after some hundred prompts: what counts is how it goes on.
    for _ in range(SETTLING):
        encoded = [_encodes(route, each) for each in seen]
    told: dict[str, Any] = {
        "prompts": len(prompts),
        "encoded": round(float(np.mean(encoded)), 3),
        "margin": round(route.margin.value, 3),
        "strange_by_words": round(float(np.mean([by_words for _, _, by_words, _ in seen])), 3),
        "strange_by_vector": round(float(np.mean([by_vector for *_, by_vector in seen])), 3),
        "chosen_otherwise_by_words": round(
            float(np.mean([words.chosen is not full.chosen for words, full, *_ in seen])), 3
        ),
    }
    if scores is not None and not np.isnan(scores).any(axis=1).all():
        unsure = [
            full if asked else words for (words, full, *_), asked in zip(seen, encoded, strict=True)
        ]
        told["mean_score"] = {
            "never": _score(route, [words for words, *_ in seen], scores),
            "when-unsure": _score(route, unsure, scores),
            "always": _score(route, [full for _, full, *_ in seen], scores),
        }
    return told


def _looked(route: Route, prompt: str, vector: Vector) -> tuple[Decision, Decision, bool, bool]:
    """The decision by words and by all, and whether each finds the prompt strange."""
    facts = inspect({"messages": [{"role": "user", "content": prompt}]})
    words = route.estimator.estimate(Query(facts.instruction, None))
    full = route.estimator.estimate(Query(facts.instruction, vector))
    return (
        decide(route, facts, words, "text"),
        decide(route, facts, full, "encoded"),
        words.novelty > FAMILIAR,
        full.novelty > FAMILIAR,
    )


def _encodes(route: Route, seen: tuple[Decision, Decision, bool, bool]) -> bool:
    encoded = not clear(seen[0])
    route.margin.count(encoded=encoded)
    return encoded


def _score(
    route: Route, decisions: list[Decision], scores: NDArray[np.float32]
) -> dict[str, float | None]:
    """What was chosen scored, and is expected to cost, over prompts that all candidates have."""
    places = [route.candidates.index(decision.chosen) for decision in decisions]
    whole = ~np.isnan(scores).any(axis=1)
    costs = [decision.expected_cost for decision in decisions]
    dollars = None if None in costs else sum(filter(None, costs)) / len(costs) / NANO_PER_DOLLAR
    return {
        "score": round(float(scores[np.arange(len(places)), places][whole].mean()), 4),
        "expected_usd": None if dollars is None else float(f"{dollars:.4g}"),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--limit", type=int, default=1000, help="Prompts of each source.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
