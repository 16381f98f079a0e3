"""What the words alone settle, and what they know to be strange: shares of prompts that a router
has not seen, and of everyday requests of our own.

    python -m benchmarks.words --data FILES... [--config configs/demo.yaml] [--limit 300]

For each source, of prompts whose question the router was not trained on: the share that the route
would encode, and the shares that its words and its vector call strange. A source that the router
knows should rarely be strange; one that it does not know, and everyday requests, should be.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app.compiling import compile_config, router_directory
from app.config.load import load
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.held_out import held_out
from app.lab.outcomes import build_table, read_outcomes
from app.lab.trial import Unscorable
from app.routing.artifact import load_artifact
from app.routing.decision import decide
from app.routing.encoder.base import Encoder
from app.routing.estimators.base import Query
from app.routing.facts import inspect
from app.routing.names import DEFAULT_ROUTE
from app.routing.route import Route
from app.routing.two_speed import FAMILIAR, clear
from benchmarks.machine import describe

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
    told = {"everyday, of our own": _shares(route, encoder, list(EVERYDAY), cache)}
    sources = np.array(table.sources)
    for source in sorted(set(sources[fresh].tolist())):
        rows = fresh[sources[fresh] == source]
        some = rows[:: max(len(rows) // options.limit, 1)][: options.limit]
        told[source] = _shares(route, encoder, [table.prompts[row] for row in some], cache)
    report = {"machine": describe(), "config": str(options.config), "sources": told}
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _shares(
    route: Route, encoder: Encoder, prompts: list[str], cache: EmbeddingCache
) -> dict[str, Any]:
    vectors = embed_all(encoder, prompts, cache)
    encoded, by_words, by_vector = [], [], []
    for prompt, vector in zip(prompts, vectors, strict=True):
        facts = inspect({"messages": [{"role": "user", "content": prompt}]})
        words = route.estimator.estimate(Query(facts.instruction, None))
        encoded.append(not clear(decide(route, facts, words, "text")))
        by_words.append(words.novelty > FAMILIAR)
        full = route.estimator.estimate(Query(facts.instruction, vector))
        by_vector.append(full.novelty > FAMILIAR)
    return {
        "prompts": len(prompts),
        "encoded": round(float(np.mean(encoded)), 3),
        "strange_by_words": round(float(np.mean(by_words)), 3),
        "strange_by_vector": round(float(np.mean(by_vector)), 3),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--limit", type=int, default=300, help="Prompts of each source.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
