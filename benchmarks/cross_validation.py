"""What the default router is worth on every set and pair of models in the data, by nested
cross-validation: each router is trained once and scored on everything that its fold left out.

    python -m benchmarks.cross_validation --data FILES... --scratch DIR --out FILE

`pointsman compare` takes one pair or pool a run. Here one set of routers serves the pair that
RouteLLM published, a pool of six, and all pairs of each source against the mean of the task with
its label known. Routers are kept in --scratch, so that a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.comparing import CompareSettings, compare
from app.lab.contestants import Contestant
from app.lab.embedding import EmbeddingCache, default_cache
from app.lab.fit import Vectors
from app.lab.folds import Fingerprinted, folds_at_random
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeRow, OutcomeTable, Unit, build_table, read_outcomes
from app.lab.predicting import predict
from app.lab.resampling import Resamples, interval, resampled_apgr_within
from app.lab.sources import refuse_evaluation_only
from app.lab.train import TrainSettings, one_thread, prepare, train_on, write_router
from app.lab.trial import NEARLY_ALL
from app.routing.artifact import load_artifact
from app.routing.encoder.onnx import OnnxEncoder
from app.routing.estimators.kinds import DEFAULT_KIND
from benchmarks.machine import describe

ENCODER = Path(__file__).resolve().parents[1] / "router_models" / "encoder-minilm"

PAIR = ("gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1")
PAIR_SOURCE = "routellm_mmlu"
POOL = (
    "gemini-1.5-pro-002",
    "gemini-1.5-flash-002",
    "Meta-Llama-3_1-70B-Instruct",
    "Meta-Llama-3_1-8B-Instruct",
    "Mixtral-8x7B-Instruct-v0.1",
    "mathstral-7B",
)
LEAST_GAP = 0.02
"""Of two models that are nearly as good there is nothing to win, and APGR divides by it."""

REPEATS = 200


class Routers:
    """Trains the routers that a comparison asks for, or opens what an earlier one left."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __call__(
        self,
        table: OutcomeTable,
        vectors: Vectors,
        kinds: Sequence[str],
        settings: TrainSettings,
        encoder: Mapping[str, Any],
    ) -> Iterator[Contestant]:
        rows = hashlib.blake2b(
            "\n".join(sorted(table.ids)).encode(), digest_size=8, key=settings.folds_by.encode()
        ).hexdigest()
        ground = None
        for kind in kinds:
            out = self._scratch / f"{kind}-{settings.seed}-{rows}"
            started = perf_counter()
            if not out.exists():
                if ground is None:
                    ground = prepare(table, vectors, settings)
                asked = TrainSettings(
                    seed=settings.seed,
                    test_share=0.0,
                    estimator=kind,
                    folds_by=settings.folds_by,
                )
                write_router(train_on(ground, asked), out, encoder, {"command": "benchmark"})
            _say(f"{out.name}: {perf_counter() - started:.0f} s")
            yield Contestant(kind, load_artifact(out), perf_counter() - started)


def main() -> None:
    options = _options()
    rows = read_outcomes(options.data)
    refuse_evaluation_only(rows)
    encoder = OnnxEncoder(ENCODER)
    cache = EmbeddingCache(default_cache(), encoder.fingerprint)
    routers = Routers(options.scratch)
    report: dict[str, Any] = {
        "machine": describe(),
        "leave_out": options.leave_out,
        "seeds": options.seeds,
        "kinds": options.kinds,
        "compared": {},
    }

    def compared(name: str, **settings: Any) -> None:
        asked = CompareSettings(
            kinds=tuple(options.kinds),
            folds=options.folds,
            seeds=options.seeds,
            leave_out=options.leave_out,
            **settings,
        )
        try:
            found = compare(rows, encoder, asked, cache=cache, train_routers=routers)
        except DataError as error:
            _say(f"{name}: {error}")
            return
        report["compared"][name] = found.as_dict()
        _write(options.out, report)

    with one_thread():
        compared("pair", strong=PAIR[0], weak=PAIR[1])
        compared("pool", models=POOL)
        report["pairs"] = _all_pairs(rows, encoder, cache, routers, options)
    _write(options.out, report)
    print(orjson.dumps(report["pairs"]["summary"], option=orjson.OPT_INDENT_2).decode())


def _all_pairs(
    rows: Sequence[OutcomeRow],
    encoder: OnnxEncoder,
    cache: EmbeddingCache,
    routers: Routers,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Every pair of each source's models against the task's mean, with the routers of seed 0."""
    table = build_table(rows, merge=False)
    by_key = {(row.id, row.kind == "preferences"): row for row in rows}
    mine = [by_key[key] for key in zip(table.ids, table.relative.tolist(), strict=True)]
    vectors = np.stack([cache[prompt] for prompt in table.prompts])
    place = {prompt: at for at, prompt in enumerate(table.prompts)}
    n, models = table.scores.shape
    quality, by_task = np.full((2, n, models), np.nan)
    of_fold = np.full(n, -1, dtype=np.intp)
    sources = np.array(table.sources)
    known = Fingerprinted.of(table)
    encoded = {
        "name": "compared",
        "fingerprint": encoder.fingerprint,
        "dimensions": encoder.dimensions,
    }
    folds = folds_at_random(table, known, options.folds, 0, options.leave_out)
    for number, fold in enumerate(folds):
        train = build_table(mine[row] for row in fold.train)
        settings = TrainSettings(seed=0, test_share=0.0, folds_by=options.leave_out)
        inputs = vectors[[place[prompt] for prompt in train.prompts]]
        one = next(iter(routers(train, inputs, options.kinds[:1], settings, encoded)))
        of_fold[fold.test] = number
        for source in sorted(set(sources[fold.test])):
            here = fold.test[sources[fold.test] == source]
            pool = _models_of(table, np.flatnonzero(sources == source))
            found = predict(
                one.artifact,
                [table.models[column] for column in pool],
                [table.prompts[row] for row in here],
                vectors[here],
            )
            quality[np.ix_(here, pool)] = found.quality
            past = fold.train[sources[fold.train] == source]
            by_task[np.ix_(here, pool)] = _task_means(table, here, past, pool)
            _say(f"fold {number}: {source}, {len(here)} prompts, {len(pool)} models")
    found_pairs = [
        pair
        for source in sorted(set(sources))
        for pair in _pairs(table, np.flatnonzero(sources == source), quality, by_task, of_fold)
    ]
    if options.gains is not None:
        strong, weak = (table.columns[name] for name in PAIR)
        both = np.flatnonzero(sources == PAIR_SOURCE)
        np.savez(
            options.gains,
            strong=table.scores[both, strong],
            weak=table.scores[both, weak],
            gain=quality[both, strong] - quality[both, weak],
        )
    return {"summary": _summary(found_pairs), "pairs": found_pairs}


def _models_of(table: OutcomeTable, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Columns of the models that answered nearly all of these rows."""
    answered = (~np.isnan(table.scores[rows])).mean(axis=0)
    return np.flatnonzero(answered >= NEARLY_ALL)


def _task_means(
    table: OutcomeTable, rows: NDArray[np.intp], past: NDArray[np.intp], pool: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Each model's mean over the past prompts of a row's task, with the label known."""
    tasks = np.array(table.tasks)
    found = np.tile(np.nanmean(table.scores[past][:, pool], axis=0), (len(rows), 1))
    for task in set(tasks[rows]):
        same = past[tasks[past] == task]
        if len(same):
            found[tasks[rows] == task] = np.nanmean(table.scores[same][:, pool], axis=0)
    return np.asarray(found, dtype=np.float64)


def _pairs(
    table: OutcomeTable,
    rows: NDArray[np.intp],
    quality: NDArray[np.float64],
    by_task: NDArray[np.float64],
    of_fold: NDArray[np.intp],
) -> Iterator[dict[str, Any]]:
    draws: dict[int, Resamples] = {}
    for first, second in combinations(_models_of(table, rows), 2):
        both = rows[~np.isnan(table.scores[rows][:, [first, second]]).any(axis=1)]
        means = table.scores[both][:, [first, second]].mean(axis=0)
        strong, weak = (first, second) if means[0] >= means[1] else (second, first)
        if abs(means[0] - means[1]) < LEAST_GAP:
            continue
        up, down = (table.scores[both, column].astype(np.float64) for column in (strong, weak))
        resamples = draws.setdefault(len(both), Resamples(len(both), REPEATS, seed=0))
        apgr, drawn = [], []
        for predicted in (quality, by_task):
            gain = predicted[both, strong] - predicted[both, weak]
            apgr.append(_within(gain, down, up, of_fold[both]))
            drawn.append(resampled_apgr_within(gain, down, up, of_fold[both], resamples))
        yield {
            "source": table.sources[rows[0]],
            "strong": table.models[strong],
            "weak": table.models[weak],
            "prompts": len(both),
            "gap": float(abs(means[0] - means[1])),
            "apgr": apgr[0],
            "task_mean": apgr[1],
            "ahead": interval(drawn[0] - drawn[1]),
        }


def _within(
    gain: NDArray[np.float64],
    weak: NDArray[np.float64],
    strong: NDArray[np.float64],
    folds: NDArray[np.intp],
) -> float:
    """APGR with each fold swept by itself, weighed by what there is to gain in it."""
    won = 0.0
    for fold in np.unique(folds):
        here = folds == fold
        curve = exact_curve(gain[here], weak[here], strong[here])
        won += float(np.trapezoid(curve.quality - curve.weak, curve.share)) * int(here.sum())
    return won / float((strong - weak).sum())


def _summary(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for source in sorted({pair["source"] for pair in pairs}):
        of_source = [pair for pair in pairs if pair["source"] == source]
        known = [pair for pair in of_source if pair["ahead"] is not None]
        found[source] = {
            "pairs": len(of_source),
            "ahead": sum(pair["apgr"] > pair["task_mean"] for pair in of_source),
            "surely_ahead": sum(pair["ahead"][0] > 0 for pair in known),
            "surely_behind": sum(pair["ahead"][1] < 0 for pair in known),
            "mean_apgr": float(np.mean([pair["apgr"] for pair in of_source])),
            "mean_task_mean": float(np.mean([pair["task_mean"] for pair in of_source])),
        }
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    choices: tuple[Unit, ...] = ("question", "prompt")
    parser.add_argument("--leave-out", choices=choices, default="question")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=[DEFAULT_KIND])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--gains", type=Path, help="Write what benchmarks.guarantee reads, for the published pair."
    )
    return parser.parse_args()


def _write(path: Path, report: Mapping[str, Any]) -> None:
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
