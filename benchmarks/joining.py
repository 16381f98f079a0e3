"""What joining costs: a model that joined from some scored prompts, against a router that was
trained on all of its outcomes.

    python -m benchmarks.joining --data FILES... [--prompts 200] [--seeds 5] [--kind knn]
        [--held-out NAMES...]

Questions are split once: a test share that nobody sees, a share of fresh prompts to join from, and
the rest, on which two routers are trained, one with all models and one without the model held out.
That one joins the second, from prompts that router was trained on (`rows`) or has never seen
(`fresh`), where the scores of other models are not shown to it. What is lost is the difference in
APGR on the test questions of the pair, the mean over draws of the prompts, with an interval from
bootstraps over test questions. `--retrain` trains anew instead, with the scores on the prompts
drawn and none else of that model. `--tune` does the same for models of no such pair, the kind on
which the precisions of `JoinSettings` were chosen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.errors import PointsmanError
from app.lab.add_model import ask, join, with_newcomer
from app.lab.contestants import routers
from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.fit import Vectors
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeTable, build_table, read_outcomes, split_position
from app.lab.predicting import predict
from app.lab.resampling import Resamples, interval, resampled_apgr
from app.lab.train import TrainSettings, one_thread
from app.routing.artifact import Artifact
from app.routing.encoder.onnx import OnnxEncoder
from app.routing.estimators.base import Array
from app.routing.estimators.kinds import DEFAULT_KIND, KINDS
from app.routing.model_names import lookup_key
from benchmarks import machine
from benchmarks.gateways import REPOSITORY

ENCODER = REPOSITORY / "router_models" / "encoder-minilm"
TARGET = 0.01
PLACES = ("rows", "fresh")

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the prompts of a source."""

    source: str
    strong: str
    weak: str


PAIRS = (
    Pair("mmlu_pro", "gemini-1.5-pro-002", "Meta-Llama-3.1-8B-Instruct"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "Mixtral-8x7B-Instruct-v0.1"),
    Pair("mmlu_pro", "gemini-1.5-pro-002", "gemini-1.5-flash-002"),
    Pair("mmlu_pro", "Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
    Pair("zeroeval", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    Pair("routellm_mmlu", "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"),
)
TUNE = (
    Pair("mmlu_pro", "Meta-Llama-3-70B", "mathstral-7B"),
    Pair("mmlu_pro", "DeepSeek-Coder-V2", "Phi-3-mini-4k-instruct"),
    Pair("mmlu_pro", "Qwen1.5-72B-Chat", "Mistral-7B-Instruct-v0.2"),
    Pair("mmlu_pro", "jamba-1.5-large", "Qwen1.5-7B-Chat"),
    Pair("zeroeval", "claude-3-5-sonnet-20240620", "gpt-3.5-turbo-0125"),
    Pair("llmrouter", "llama-3.1-nemotron-51b-instruct", "mistral-7b-instruct-v0.3"),
)


@dataclass(frozen=True, slots=True)
class Loss:
    """`lost` is full minus joined, so more is worse; `deviation` is over draws of the prompts."""

    pair: Pair
    held_out: str
    joined_from: str
    prompts: int
    test: int
    full: float
    lost: float
    low: float | None
    high: float | None
    deviation: float

    @property
    def reached(self) -> bool:
        return self.lost <= TARGET


@dataclass(frozen=True)
class Bench:
    """Outcomes with vectors, split by question."""

    table: OutcomeTable
    vectors: Vectors
    train: Rows
    fresh: Rows
    test: Rows
    options: argparse.Namespace

    def scored(self, rows: Rows, pair: Pair) -> Rows:
        """Of these the ones of the pair's source with both scores."""
        columns = [self.table.columns[pair.strong], self.table.columns[pair.weak]]
        here = np.array(self.table.sources)[rows] == pair.source
        return rows[here & ~np.isnan(self.table.scores[rows][:, columns]).any(axis=1)]

    def router(self, without: str | None) -> Iterator[Artifact]:
        """One that is gone after use."""
        gone = without and lookup_key(without)
        table = _only(self.table, [m for m in self.table.models if lookup_key(m) != gone])
        yield from self._trained(table, self.train)

    def retrained(self, name: str, drawn: Rows) -> Iterator[Artifact]:
        """One that was trained on these rows' scores of the model, and on all of others."""
        scores = self.table.scores.copy()
        unknown = np.setdiff1d(np.arange(len(self.table)), drawn)
        scores[unknown, self.table.columns[name]] = np.nan
        rows = np.union1d(self.train, drawn)
        yield from self._trained(replace(self.table, scores=scores), rows)

    def _trained(self, table: OutcomeTable, rows: Rows) -> Iterator[Artifact]:
        rows = rows[~np.isnan(table.scores[rows]).all(axis=1)]
        settings = TrainSettings(seed=0, encoder=ENCODER)
        encoder = {"name": ENCODER.name, "fingerprint": ENCODER.name}
        kinds = [self.options.kind]
        for each in routers(table.take(rows), self.vectors[rows], kinds, settings, encoder):
            yield each.artifact

    def gain(self, artifact: Artifact, pair: Pair, rows: Rows) -> Array:
        prompts = [self.table.prompts[row] for row in rows]
        found = predict(artifact, [pair.strong, pair.weak], prompts, self.vectors[rows])
        return np.asarray(found.quality[:, 0] - found.quality[:, 1])


def measure(bench: Bench, pairs: Sequence[Pair], console: Console) -> list[Loss]:
    """Trains a router for each model held out, and one more."""
    full: dict[Pair, Array] = {}
    for artifact in bench.router(None):
        for pair in pairs:
            full[pair] = bench.gain(artifact, pair, bench.scored(bench.test, pair))
    found = []
    models = {name for pair in pairs for name in (pair.strong, pair.weak)}
    for held_out in sorted(models & set(bench.options.held_out or models)):
        for artifact in bench.router(held_out):
            for pair in pairs:
                if held_out in (pair.strong, pair.weak):
                    for place in PLACES:
                        loss = _loss(bench, artifact, pair, held_out, place, full[pair])
                        console.print(f"{pair.source}: {held_out} from {place}: {loss.lost:+.4f}")
                        found.append(loss)
    return sorted(found, key=lambda each: (pairs.index(each.pair), each.held_out))


def _loss(
    bench: Bench, artifact: Artifact, pair: Pair, held_out: str, place: str, full: Array
) -> Loss:
    pool = bench.scored(bench.train if place == "rows" else bench.fresh, pair)
    test = bench.scored(bench.test, pair)
    strong, weak = (
        bench.table.scores[test, bench.table.columns[name]].astype(np.float64)
        for name in (pair.strong, pair.weak)
    )
    resamples = Resamples(len(test), bench.options.repeats, seed=0)
    lost, resampled = [], []
    base = resampled_apgr(full, weak, strong, resamples)
    for seed in range(bench.options.seeds):
        count = min(bench.options.prompts, len(pool))
        drawn = np.sort(np.random.default_rng(seed).choice(pool, count, replace=False))
        if bench.options.retrain:
            (gain,) = (bench.gain(a, pair, test) for a in bench.retrained(held_out, drawn))
        else:
            table = bench.table.take(drawn)
            if place == "fresh":
                table = _only(table, [held_out])
            gain = bench.gain(_joined(artifact, table, bench.vectors[drawn], held_out), pair, test)
        lost.append(_apgr(full, weak, strong) - _apgr(gain, weak, strong))
        resampled.append(base - resampled_apgr(gain, weak, strong, resamples))
    bounds = interval(np.mean(resampled, axis=0))
    low, high = bounds if bounds is not None else (None, None)
    return Loss(
        pair=pair,
        held_out=held_out,
        joined_from=place,
        prompts=count,
        test=len(test),
        full=_apgr(full, weak, strong),
        lost=float(np.mean(lost)),
        low=low,
        high=high,
        deviation=float(np.std(lost)),
    )


def _joined(artifact: Artifact, table: OutcomeTable, vectors: Vectors, name: str) -> Artifact:
    known = ask(artifact, table, vectors)
    return with_newcomer(artifact, join(artifact, table, vectors, known, name, ()))


def _apgr(gain: Array, weak: Array, strong: Array) -> float:
    return exact_curve(gain, weak, strong).apgr()


def _only(table: OutcomeTable, models: Sequence[str]) -> OutcomeTable:
    columns = [table.columns[name] for name in models]
    return replace(
        table,
        models=tuple(models),
        scores=table.scores[:, columns],
        output_tokens=table.output_tokens[:, columns],
        costs_usd=table.costs_usd[:, columns],
        columns={name: at for at, name in enumerate(models)},
    )


def main() -> None:
    options = _options()
    console = Console(stderr=True)
    try:
        table = build_table(read_outcomes(options.data))
        encoder = OnnxEncoder(ENCODER)
        cache = EmbeddingCache(default_cache(), encoder.fingerprint)
        vectors = embed_all(encoder, table.prompts, cache)
    except PointsmanError as error:
        sys.exit(str(error))
    at = np.array([split_position(prompt) for prompt in table.prompts])
    fresh = options.test_share + options.fresh_share
    bench = Bench(
        table=table,
        vectors=vectors,
        train=np.flatnonzero(at >= fresh),
        fresh=np.flatnonzero((at >= options.test_share) & (at < fresh)),
        test=np.flatnonzero(at < options.test_share),
        options=options,
    )
    wanted = TUNE if options.tune else PAIRS
    pairs = [pair for pair in wanted if {pair.strong, pair.weak} <= set(table.columns)]
    with one_thread():
        found = measure(bench, pairs, console)
    if options.json:
        report = {
            "machine": machine.describe(),
            "kind": options.kind,
            "prompts": options.prompts,
            "retrained": options.retrain,
            "seeds": options.seeds,
            "losses": [asdict(loss) | {"reached": loss.reached} for loss in found],
            "mean": _means(found),
        }
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        Console(width=140).print(_table(found))
        for place, mean in _means(found).items():
            print(f"mean lost, joined from {place}: {mean:+.4f}")


def _means(found: Sequence[Loss]) -> Mapping[str, float]:
    return {
        place: float(np.mean([loss.lost for loss in found if loss.joined_from == place]))
        for place in PLACES
    }


def _table(found: Sequence[Loss]) -> Table:
    table = Table()
    for name in ("source", "pair", "joined", "from", "full APGR", "lost", "interval", "over draws"):
        table.add_column(name)
    for loss in found:
        bounds = "-" if loss.low is None else f"{loss.low:+.3f} {loss.high:+.3f}"
        table.add_row(
            loss.pair.source,
            f"{loss.pair.strong} / {loss.pair.weak}",
            "strong" if loss.held_out == loss.pair.strong else "weak",
            f"{loss.prompts} {loss.joined_from}",
            f"{loss.full:.3f}",
            f"{loss.lost:+.4f}",
            bounds,
            f"{loss.deviation:.3f}",
        )
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--kind", choices=list(KINDS), default=DEFAULT_KIND)
    parser.add_argument("--prompts", type=int, default=200, help="That a model joins from.")
    parser.add_argument("--seeds", type=int, default=5, help="Draws of these prompts.")
    parser.add_argument("--held-out", nargs="+", help="Only these join, not all of the pairs.")
    parser.add_argument("--test-share", type=float, default=0.3)
    parser.add_argument("--fresh-share", type=float, default=0.15)
    parser.add_argument("--repeats", type=int, default=500, help="Bootstraps.")
    parser.add_argument("--retrain", action="store_true", help="Train anew instead of joining.")
    parser.add_argument("--tune", action="store_true", help="Models that no pair has.")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
