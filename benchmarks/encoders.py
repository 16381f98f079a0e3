"""Compares tuned encoders with the untouched one, on questions that neither tuning nor scoring saw.

    python -m benchmarks.encoders --data FILES... [--rows N] [--objectives task,expert,classifier]

Every encoder is tuned on a sample of the training questions. Then the same two scorers, kNN and a
ridge head, predict the gain of every held-out prompt from the vectors of a larger sample, the
index. What counts is the difference in APGR to the untouched encoder on the same prompts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.errors import PointsmanError
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeTable, build_table, read_outcomes, split
from app.lab.train import one_thread
from app.lab.trial import FEWEST_ROWS
from app.lab.tuning import TunedClassifier, TuneSettings, export, tune
from app.lab.tuning.export import loss_at_ends
from app.lab.tuning.settings import OBJECTIVES
from app.routing.encoder.onnx import OnnxEncoder
from app.routing.estimators.base import Array
from app.routing.estimators.classifier import TunedHeads
from benchmarks import machine
from benchmarks.gateways import REPOSITORY

SHIPPED = REPOSITORY / "router_models" / "encoder-minilm"
UNTOUCHED = "untouched"
NEIGHBOURS = 160
TEMPERATURE = 0.2
RIDGE = 30.0
REPEATS = 1_000
LEVEL = 0.9


@dataclass(frozen=True)
class Pair:
    """A comparison: prompts of a source, a strong model and a weak one."""

    source: str
    strong: str
    weak: str


PAIRS = (
    Pair("routellm_mmlu", "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("routellm_gsm8k", "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "gemini-1.5-flash-002"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "Meta-Llama-3.1-8B-Instruct"),
    Pair("mmlu_pro", "Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
    Pair("mmlu_pro", "Meta-Llama-3.1-70B-Instruct", "Mixtral-8x7B-Instruct-v0.1"),
)


@dataclass(frozen=True)
class Tuned:
    """An encoder that is compared: where it lies, how it was made, and its heads if it has any."""

    name: str
    directory: Path
    heads: TunedHeads | None = None
    report: dict[str, Any] | None = None


@dataclass(frozen=True)
class Score:
    """One scorer on one encoder's vectors; `difference` to the untouched encoder with the same
    scorer (the classifier's heads: to its kNN), with a paired bootstrap interval.
    """

    source: str
    strong: str
    weak: str
    rows: int
    encoder: str
    scorer: str
    apgr: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Problem:
    """One pair: training rows with both scores, and held-out prompts of one source."""

    pair: Pair
    train: NDArray[np.intp]
    train_gain: Array
    test: NDArray[np.intp]
    weak: Array
    strong: Array


def problems(train: OutcomeTable, test: OutcomeTable) -> list[Problem]:
    found = []
    for pair in PAIRS:
        if not {pair.strong, pair.weak} <= set(test.columns):
            continue
        gain = _column(train, pair.strong) - _column(train, pair.weak)
        rows = np.flatnonzero(~np.isnan(gain))
        here = np.array([source == pair.source for source in test.sources])
        known = ~np.isnan(_column(test, pair.strong) - _column(test, pair.weak))
        held_out = np.flatnonzero(here & known)
        if len(held_out) < FEWEST_ROWS or len(rows) < FEWEST_ROWS:
            continue
        weak, strong = _column(test, pair.weak)[held_out], _column(test, pair.strong)[held_out]
        found.append(Problem(pair, rows, gain[rows], held_out, weak, strong))
    return found


def knn_gain(vectors: Array, gain: Array, queries: Array) -> Array:
    """Mean gain of the nearest, weighted by exp((similarity - 1) / temperature)."""
    predicted = np.empty(len(queries))
    count = min(NEIGHBOURS, len(vectors))
    for start in range(0, len(queries), 256):
        similarity = queries[start : start + 256] @ vectors.T
        near = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(similarity, near, axis=1) - 1.0) / TEMPERATURE)
        predicted[start : start + 256] = (weights * gain[near]).sum(axis=1) / weights.sum(axis=1)
    return predicted


def ridge_gain(vectors: Array, gain: Array, queries: Array) -> Array:
    """A linear head on the centred vectors."""
    centre, mean = vectors.mean(axis=0), gain.mean()
    inputs = vectors - centre
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (gain - mean))
    return np.asarray((queries - centre) @ weights + mean)


def predictions(
    problem: Problem, encoder: Tuned, train: NDArray[np.float32], test: NDArray[np.float32]
) -> dict[str, Array]:
    """Predicted gain of the held-out prompts by scorer."""
    known, queries = train[problem.train].astype(np.float64), test[problem.test].astype(np.float64)
    found = {
        "knn": knn_gain(known, problem.train_gain, queries),
        "ridge": ridge_gain(known, problem.train_gain, queries),
    }
    heads = encoder.heads
    if heads is not None:
        pair = [heads.models.index(name) for name in (problem.pair.strong, problem.pair.weak)]
        quality = heads.quality.select(pair).quality(test[problem.test])
        found["heads"] = quality[:, 0] - quality[:, 1]
        if heads.pair is not None and (heads.strong, heads.weak) == (
            problem.pair.strong,
            problem.pair.weak,
        ):
            found["win/tie/loss"] = heads.pair.strong_wins(test[problem.test])
    return found


def scores_of(problem: Problem, by_encoder: dict[str, dict[str, Array]], seed: int) -> list[Score]:
    """Every encoder and scorer on one pair, beside the untouched encoder."""
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(problem.test), len(problem.test)) for _ in range(REPEATS)]
    everything = np.arange(len(problem.test))

    def apgr(gain: Array, rows: NDArray[np.intp]) -> float:
        return exact_curve(gain[rows], problem.weak[rows], problem.strong[rows]).apgr()

    base = {
        scorer: (apgr(gain, everything), np.array([apgr(gain, rows) for rows in draws]))
        for scorer, gain in by_encoder[UNTOUCHED].items()
    }
    scores = []
    for encoder, by_scorer in by_encoder.items():
        for scorer, gain in by_scorer.items():
            here, (there, sampled) = apgr(gain, everything), base.get(scorer, base["knn"])
            differences = np.array([apgr(gain, rows) for rows in draws]) - sampled
            low, high = np.nanquantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            scores.append(
                Score(
                    **asdict(problem.pair),
                    rows=len(problem.test),
                    encoder=encoder,
                    scorer=scorer,
                    apgr=here,
                    difference=here - there,
                    low=float(low),
                    high=float(high),
                )
            )
    return scores


def tuned_encoder(
    train: OutcomeTable, settings: TuneSettings, out: Path, console: Console
) -> Tuned:
    """One tuned encoder, exported, with what making it took."""
    started = time.process_time()
    steps = 0

    def advance(count: int) -> None:
        nonlocal steps
        steps += count
        if steps % 20 == 0:
            console.print(f"{settings.objective}: {steps} steps", highlight=False)

    tuned = tune(train, settings, advance)
    manifest = export(tuned, out / settings.objective, settings)
    report = {
        "rows": tuned.rows,
        "steps": len(tuned.losses),
        "losses": loss_at_ends(tuned.losses),
        "cpu_seconds": time.process_time() - started,
        "command": manifest["command"],
    }
    heads = tuned.heads if isinstance(tuned, TunedClassifier) else None
    return Tuned(settings.objective, out / settings.objective, heads, report)


def run(
    files: Sequence[Path],
    out: Path,
    settings: TuneSettings,
    objectives: Sequence[str],
    test_share: float,
    index_rows: int,
    console: Console,
) -> dict[str, Any]:
    """Tunes, encodes and scores; everything measured as JSON has it."""
    found = machine.describe()
    rows = read_outcomes(files)
    train, _ = split(build_table(rows), test_share)
    chosen = np.random.default_rng(settings.seed).permutation(len(train))[:index_rows]
    train = train.take(np.sort(chosen))
    # Not merged: a question that two sources share is scored by each source's own outcomes.
    _, test = split(build_table(rows, merge=False), test_share)
    pairs = problems(train, test)
    encoders = [Tuned(UNTOUCHED, SHIPPED)]
    for objective in OBJECTIVES:
        if objective in objectives:
            asked = replace(settings, objective=objective)
            encoders.append(tuned_encoder(train, asked, out, console))
    predicted: list[dict[str, dict[str, Array]]] = [{} for _ in pairs]
    for encoder in encoders:
        console.print(f"encoding with {encoder.name}", highlight=False)
        onnx = OnnxEncoder(encoder.directory)
        # Only the shipped encoder's vectors are worth remembering.
        cache = EmbeddingCache(default_cache(), onnx.fingerprint)
        kept = cache if encoder.name == UNTOUCHED else None
        vectors = embed_all(onnx, train.prompts, kept), embed_all(onnx, test.prompts, kept)
        with one_thread():
            for problem, by_encoder in zip(pairs, predicted, strict=True):
                by_encoder[encoder.name] = predictions(problem, encoder, *vectors)
    with one_thread():
        scores = [
            score
            for problem, by_encoder in zip(pairs, predicted, strict=True)
            for score in scores_of(problem, by_encoder, settings.seed)
        ]
    return {
        "machine": found,
        "index_rows": len(train),
        "test_rows": len(test),
        "tuned": {encoder.name: encoder.report for encoder in encoders if encoder.report},
        "cpu_seconds": time.process_time(),
        "scores": [asdict(score) for score in scores],
    }


def print_scores(results: dict[str, Any], console: Console) -> None:
    table = Table(title="APGR on held-out questions, and its difference to the untouched encoder")
    for heading in ("source", "strong / weak", "encoder", "scorer"):
        table.add_column(heading)
    for heading in ("prompts", "APGR", "difference", f"{LEVEL:.0%}"):
        table.add_column(heading, justify="right")
    for score in results["scores"]:
        table.add_row(
            score["source"],
            f"{score['strong']} / {score['weak']}",
            score["encoder"],
            score["scorer"],
            str(score["rows"]),
            f"{score['apgr']:.3f}",
            f"{score['difference']:+.3f}",
            f"{score['low']:+.3f} to {score['high']:+.3f}",
        )
    console.print(table)
    console.print(f"{results['cpu_seconds'] / 60:.1f} minutes of CPU time", highlight=False)


def _column(table: OutcomeTable, model: str) -> Array:
    return table.scores[:, table.columns[model]].astype(np.float64)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="outcome files")
    parser.add_argument("--out", type=Path, help="keep the tuned encoders here")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    parser.add_argument("--rows", type=int, default=3_200, help="rows to tune each encoder on")
    parser.add_argument("--index", type=int, default=8_000, help="rows that the scorers learn from")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--strong", default="gpt-4-1106-preview", help="of the pair tuned for")
    parser.add_argument("--weak", default="Mixtral-8x7B-Instruct-v0.1")
    parser.add_argument("--test-share", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    return parser.parse_args()


def main() -> int:
    asked = _arguments()
    errors = Console(stderr=True)
    objectives = asked.objectives.split(",")
    unknown = sorted(set(objectives) - set(OBJECTIVES))
    if unknown:
        errors.print(f"no such objective: {', '.join(unknown)}; there are {', '.join(OBJECTIVES)}")
        return 2
    settings = TuneSettings(
        strong=asked.strong,
        weak=asked.weak,
        epochs=asked.epochs,
        learning_rate=asked.lr,
        max_rows=asked.rows,
        max_tokens=asked.max_tokens,
        seed=asked.seed,
        threads=asked.threads,
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch)
        try:
            results = run(
                asked.data, out, settings, objectives, asked.test_share, asked.index, errors
            )
        except PointsmanError as error:
            errors.print(str(error), style="red", markup=False)
            return 2
    print_scores(results, Console(width=140))
    if asked.json:
        asked.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
