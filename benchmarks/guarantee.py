"""How much each bound lets the guarantee save, and how often it breaks: many calibrations on real
outcomes, each measured on what was not calibrated on.

    python -m benchmarks.guarantee --data routellm_mmlu.jsonl.gz

Gains are predicted out of fold by a small predictor of its own, so that all rows of a file can be
used and the figures are about the bounds; `--router` takes a trained router on the rows that it has
not seen, and `--gains` predictions from elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
import re
import zlib
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import orjson
from numpy.typing import NDArray

from app.lab.embedding import EmbeddingCache, default_cache, embed_all
from app.lab.ground import fold_of
from app.lab.guarantee import Calibration, Terms, find_gate, outcome
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeTable, build_table, read_outcomes
from app.routing.encoder.onnx import OnnxEncoder
from benchmarks.machine import describe

Array = NDArray[np.float64]
ENCODER = Path(__file__).resolve().parents[1] / "router_models" / "encoder-minilm"
FOLDS = 5
HASHED_WORDS = 4096
NEIGHBOURS = 160
_WORD = re.compile(r"\w+")


def main() -> None:
    options = _options()
    rows = _rows(options)
    curve = exact_curve(rows.gains[:, 0], rows.cheaper[:, 0], rows.strong)
    enough = np.flatnonzero(curve.quality >= options.keep * curve.strong)[0]
    report = {
        "machine": describe(),
        "rows": len(rows),
        "apgr": round(curve.apgr(), 4),
        "weak_share_without_a_promise": round(1 - float(curve.share[enough]), 4),
        "calibration_prompts": options.n,
        "splits": options.splits,
        "bounds": [_measure(rows, options, bound) for bound in ("betting", "normal", "bernstein")],
    }
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, default=[])
    parser.add_argument("--strong", default="gpt-4-1106-preview")
    parser.add_argument("--weak", default="Mixtral-8x7B-Instruct-v0.1")
    parser.add_argument("--keep", type=float, default=0.95)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--n", type=int, default=1000, help="Calibration prompts.")
    parser.add_argument("--splits", type=int, default=400)
    parser.add_argument("--router", type=Path, help="Predict with this router, on rows unseen.")
    parser.add_argument("--gains", type=Path, help="An .npz with strong, weak and gain by row.")
    return parser.parse_args()


def _measure(rows: Calibration, options: argparse.Namespace, bound: str) -> dict[str, object]:
    """Random splits into n and the rest, and draws with replacement against all rows.

    The second is the cleaner: the rest of a split is itself a sample, and what it lacks the
    calibration rows have, so splits break somewhat more often than the promise does.
    """
    terms = replace(Terms(options.keep, options.delta), bound=bound)
    split, drawn = [], []
    began = perf_counter()
    for number in range(options.splits):
        rng = np.random.default_rng(number)
        order = rng.permutation(len(rows))
        gate = find_gate(rows.take(order[: options.n]), terms)
        split.append(outcome(rows.take(order[options.n :]), gate))
        sample = rng.integers(0, len(rows), options.n)
        drawn.append(outcome(rows, find_gate(rows.take(sample), terms)))
    seconds = perf_counter() - began
    return {
        "bound": bound,
        "splits": _summary(np.array(split), options.keep),
        "draws": _summary(np.array(drawn), options.keep),
        "seconds_a_calibration": round(seconds / (2 * options.splits), 4),
    }


def _summary(outcomes: Array, keep: float) -> dict[str, float]:
    kept, share = outcomes.T
    return {
        "weak_share": round(float(share.mean()), 4),
        "weak_share_standard_error": round(float(share.std() / np.sqrt(len(share))), 4),
        "violations": round(float((kept < keep).mean()), 4),
    }


# --- predictions -----------------------------------------------------------------------------


def _rows(options: argparse.Namespace) -> Calibration:
    if options.gains is not None:
        with np.load(options.gains) as stored:
            return _calibration(stored["strong"], stored["weak"], stored["gain"])
    table = build_table(read_outcomes(options.data))
    encoder = OnnxEncoder(ENCODER)
    cache = EmbeddingCache(default_cache(), encoder.fingerprint)
    if options.router is not None:
        from app.lab import calibrate as lab
        from app.routing.artifact import load_artifact

        artifact = load_artifact(options.router)
        models = lab.pool(artifact, options.strong, [options.weak])
        table = lab.usable_rows(artifact, table, models)
        return lab.predictions(artifact, table, embed_all(encoder, table.prompts, cache), models)
    columns = [table.columns[options.strong], table.columns[options.weak]]
    table = table.take(np.flatnonzero(~np.isnan(table.scores[:, columns]).any(axis=1)))
    strong, weak = table.scores[:, columns].astype(np.float64).T
    vectors = embed_all(encoder, table.prompts, cache)
    return _calibration(strong, weak, cross_fitted_gains(table, vectors, strong - weak))


def _calibration(strong: Array, weak: Array, gain: Array) -> Calibration:
    return Calibration(strong, weak[:, None], gain[:, None], np.zeros(len(strong)))


def cross_fitted_gains(table: OutcomeTable, vectors: NDArray[np.float32], gain: Array) -> Array:
    """The mean of a ridge on the vector, a ridge on hashed words, and neighbours; each row by a fit
    on the other folds, which are made by question.
    """
    folds = fold_of(table.prompts, FOLDS, seed=0)
    words = _hashed_words(table.prompts)
    predicted = np.empty(len(gain))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        parts = [
            _ridge(vectors[train], gain[train], vectors[test], 1.5),
            _ridge(words[train], gain[train], words[test], 8.0),
            _neighbours(vectors[train], gain[train], vectors[test]),
        ]
        predicted[test] = np.mean(parts, axis=0)
    return predicted


def _ridge(
    train: NDArray[np.float32], target: Array, test: NDArray[np.float32], penalty: float
) -> Array:
    centre, level = train.mean(axis=0), target.mean()
    centred = train - centre
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += penalty
    weights = np.linalg.solve(gram, centred.T @ (target - level))
    return np.asarray((test - centre) @ weights + level)


def _neighbours(train: NDArray[np.float32], target: Array, test: NDArray[np.float32]) -> Array:
    similarity = test @ train.T
    near = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weight = np.exp((np.take_along_axis(similarity, near, axis=1) - 1) / 0.1)
    return np.asarray((weight * target[near]).sum(axis=1) / weight.sum(axis=1))


def _hashed_words(prompts: tuple[str, ...]) -> NDArray[np.float32]:
    """Words and pairs of words, hashed, weighted by rarity and of unit length."""
    counts = np.zeros((len(prompts), HASHED_WORDS), dtype=np.float32)
    for row, prompt in enumerate(prompts):
        words = _WORD.findall(prompt.lower())
        for term in (*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))):
            counts[row, zlib.crc32(term.encode()) % HASHED_WORDS] += 1
    counts = np.log1p(counts) * np.log(len(prompts) / (1 + (counts > 0).sum(axis=0))).clip(0)
    return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9))


if __name__ == "__main__":
    main()
