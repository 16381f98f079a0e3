"""What the default router costs, encoder apart: training it, and scoring a request with it.

    python -m benchmarks.scoring --data FILES... [--out DIR] [--candidates A,B ...]

Trains the default kind on all prompts of the files in a process of its own (their vectors are made
before), and scores prompts with what came of it, on one core: by the words alone, in full once the
words were read, and in full. The baseline in the same run is a search of all vectors by one matrix
product, which is the least that a router without an index would do.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
from threadpoolctl import threadpool_limits

from app.compiling import compile_config
from app.config.load import load
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.fit import Vectors
from app.lab.outcomes import build_table, read_outcomes
from app.routing.artifact import load_artifact
from app.routing.estimators.base import Candidate, Estimator, Query
from benchmarks.machine import describe

PAIR = "gpt-4-1106-preview,Mixtral-8x7B-Instruct-v0.1"
POOL = (
    "gemini-1.5-pro-002,gemini-1.5-flash-002,Meta-Llama-3.1-70B-Instruct,"
    "Meta-Llama-3.1-8B-Instruct,Mixtral-8x7B-Instruct-v0.1,mathstral-7B-v0.1"
)
DEMO = Path("configs/demo.yaml")


def main() -> None:
    options = _options()
    machine = describe()
    encoder = compile_config(load(DEMO)).encoder
    if encoder is None:
        raise SystemExit(f"{DEMO} has no encoder")
    table = build_table(read_outcomes(options.data))
    cache = EmbeddingCache(default_cache(), encoder.fingerprint)
    vectors = embed_all(encoder, table.prompts, cache)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch) / "router"
        report = {"machine": machine, "training": _trained(options.data, out)}
        artifact = load_artifact(out)
        some = np.random.default_rng(0).choice(len(table), options.limit, replace=False)
        prompts = [table.prompts[row] for row in some]
        report["scoring"] = {
            "rows": len(table),
            "prompts": len(prompts),
            "characters_p50": int(np.median([len(prompt) for prompt in prompts])),
            "search_of_all_ms": _times(lambda at: vectors @ vectors[some[at]], len(some)),
            "candidates": {
                names: _scored(
                    artifact.estimator([Candidate(name) for name in names.split(",")]),
                    prompts,
                    vectors[some],
                )
                for names in options.candidates
            },
        }
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _trained(data: Sequence[Path], out: Path) -> dict[str, Any]:
    """Seconds and memory of `pointsman train`, with all it imports and reads."""
    command = [sys.executable, "-m", "app.cli", "train", "--out", str(out), "--test-share", "0"]
    command += ["--json", "--data", *map(str, data)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "peak_memory_gb": round(after.ru_maxrss / 1024**2, 2),
    }


def _scored(estimator: Estimator, prompts: Sequence[str], vectors: Vectors) -> dict[str, Any]:
    def by_words(at: int) -> None:
        estimator.estimate(Query(prompts[at], None))

    def in_full(at: int) -> None:
        estimator.estimate(Query(prompts[at], vectors[at]))

    return {
        "words_ms": _times(by_words, len(prompts)),
        "full_after_words_ms": _times(in_full, len(prompts), first=by_words),
        "full_ms": _times(in_full, len(prompts)),
    }


def _times(
    score: Callable[[int], object], count: int, first: Callable[[int], object] | None = None
) -> dict[str, float]:
    """Of all calls, each the best of five: what else the machine did is no part of the cost."""
    best = np.full(count, np.inf)
    with threadpool_limits(1):
        for _ in range(5):
            for at in range(count):
                if first is not None:
                    first(at)
                started = time.perf_counter()
                score(at)
                best[at] = min(best[at], time.perf_counter() - started)
    p50, p95 = np.percentile(1000.0 * best, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="Keep the router there.")
    parser.add_argument("--candidates", nargs="+", default=[PAIR, POOL], help="A,B,C ...")
    parser.add_argument("--limit", type=int, default=300, help="Prompts scored.")
    return parser.parse_args()


if __name__ == "__main__":
    faiss.omp_set_num_threads(1)
    main()
