"""Measures a router on outcome files, source by source: what is new to it, predicted as serving
would, and scored beside the baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.assessment import REPEATS, assess
from app.lab.baselines import LENGTH, TASK_MEAN, Baselines, learn_baselines
from app.lab.embedding import EmbeddingCache, embed_all
from app.lab.figures import ROUTER, Assessment
from app.lab.held_out import HeldOut, held_out
from app.lab.outcomes import OutcomeTable, Unit
from app.lab.predicting import predict
from app.lab.robustness import flip_rates
from app.lab.speeds import two_speed
from app.lab.trial import Pool, Predicted, Trial, Unscorable, build_trial, choose_pool
from app.routing.artifact import Artifact
from app.routing.encoder.base import Encoder
from app.routing.model_names import canonical_name

Stage = Callable[[str, int], Callable[[int], None]]
"""Begins a stage of work with a name and a number of steps; returns what counts them."""


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """`models` limits the pool; `strong` and `weak` name the pair, and are the pool where `models`
    is None. `robustness` prompts of each source are reworded, `limit` of each are scored at most.
    """

    strong: str | None = None
    weak: str | None = None
    models: Sequence[str] | None = None
    leave_out: Unit = "question"
    robustness: int = 100
    limit: int | None = None
    repeats: int = REPEATS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Sources scored, and why others were not."""

    router: str
    settings: MeasureSettings
    left_out: Mapping[str, int]
    sources: tuple[Assessment, ...]
    skipped: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "router": self.router,
            "seed": self.settings.seed,
            "leave_out": self.settings.leave_out,
            "left_out": dict(self.left_out),
            "sources": [source.as_dict() for source in self.sources],
            "skipped": [{"source": name, "reason": why} for name, why in self.skipped.items()],
        }


def measure(
    artifact: Artifact,
    encoder: Encoder,
    table: OutcomeTable,
    settings: MeasureSettings,
    *,
    cache: EmbeddingCache | None = None,
    stage: Stage = lambda name, total: lambda done: None,
) -> Measurement:
    """Scores each source of a table whose rows were not merged.

    Raises DataError where a model is unknown, and of these Unscorable where nothing is new or no
    source can be scored.
    """
    candidates, required = _chosen(artifact, table, settings)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return embed_all(encoder, texts, cache, stage("Encoding prompts", len(texts)))

    held = held_out(artifact, table, settings.leave_out)
    sources, skipped = [], {}
    for source in dict.fromkeys(sorted(table.sources)):
        rows = np.flatnonzero([name == source for name in table.sources])
        try:
            trial, baselines = _trial(table, held, rows, source, candidates, required, settings)
        except Unscorable as reason:
            skipped[source] = str(reason)
            continue
        sources.append(_score(artifact, encoder, trial, baselines, settings, encode, stage))
    if not sources:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise Unscorable(f"no source can be scored: {reasons}")
    return Measurement(str(artifact.directory), settings, held.left_out(), tuple(sources), skipped)


def _chosen(
    artifact: Artifact, table: OutcomeTable, settings: MeasureSettings
) -> tuple[list[str], list[str]]:
    """Columns of the table that may be in a pool, and those that must."""
    if (settings.strong is None) != (settings.weak is None):
        raise DataError("a strong and a weak model belong together: name both or none")
    pair = [name for name in (settings.strong, settings.weak) if name is not None]
    required = _columns(artifact, table, pair)
    if len(set(required)) == 1:
        raise DataError(f"strong and weak are the same model: {required[0]}")
    if settings.models is not None:
        return _columns(artifact, table, settings.models), required
    if required:
        return [], required
    return [name for name in table.models if artifact.knows(name)], []


def _columns(artifact: Artifact, table: OutcomeTable, names: Sequence[str]) -> list[str]:
    """The table's own names of these models, however they are spelt."""
    unknown = [name for name in names if artifact.knows(name) is None]
    if unknown:
        raise DataError(
            f"the router has no outcomes of: {', '.join(unknown)}; `pointsman models --router "
            f"{artifact.directory}` lists what it knows"
        )
    by_meaning = {artifact.knows(column): column for column in reversed(table.models)}
    columns = []
    for name in names:
        exact = canonical_name(name)
        column = exact if exact in table.columns else by_meaning.get(artifact.knows(name))
        if column is None:
            raise DataError(f"the files have no outcomes of: {name}")
        columns.append(column)
    return columns


def _trial(
    table: OutcomeTable,
    held: HeldOut,
    rows: NDArray[np.intp],
    source: str,
    candidates: Sequence[str],
    required: Sequence[str],
    settings: MeasureSettings,
) -> tuple[Trial, Baselines]:
    """The trial of a source, and what simple methods predict of it."""
    pool = choose_pool(table, np.intersect1d(rows, held.fresh), candidates, required)
    left_out = held.left_out(rows)
    if settings.limit is not None:
        left_out["over_limit"] = max(0, len(pool.rows) - settings.limit)
        pool = _sample(pool, settings.limit, settings.seed)
    learned = learn_baselines(table, pool.rows, np.intersect1d(rows, held.known), pool.models)
    trial = build_trial(
        table,
        pool,
        source=source,
        expected_costs=learned.expected_costs,
        strong=required[0] if required else None,
        weak=required[1] if required else None,
        left_out=left_out,
    )
    return trial, learned


def _sample(pool: Pool, limit: int, seed: int) -> Pool:
    if len(pool.rows) <= limit:
        return pool
    drawn = np.random.default_rng(seed).choice(pool.rows, limit, replace=False)
    return replace(pool, rows=np.sort(drawn))


def _score(
    artifact: Artifact,
    encoder: Encoder,
    trial: Trial,
    baselines: Baselines,
    settings: MeasureSettings,
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    stage: Stage,
) -> Assessment:
    def of(work: str) -> str:
        return f"{trial.source}: {work}"

    vectors = encode(trial.prompts)
    counted = stage(of("estimating"), len(trial))
    full = predict(artifact, trial.models, trial.prompts, vectors, counted)
    speeds = None
    if artifact.reads_text:
        counted = stage(of("by words alone"), len(trial))
        text = predict(artifact, trial.models, trial.prompts, None, counted)
        speeds = two_speed(trial, full, text)
    flips = None
    if settings.robustness:
        count = min(settings.robustness, len(trial))
        counted = stage(of("rewording"), 6 * count)
        rates = flip_rates(artifact, encoder, trial, count, settings.seed, counted)
        flips = {
            "prompts": count,
            "flip_rate": rates,
            "score": 1 - float(np.mean(list(rates.values()))),
        }
    predicted = {
        ROUTER: full,
        LENGTH: Predicted(baselines.length),
        TASK_MEAN: Predicted(baselines.task_mean),
    }
    return assess(
        trial,
        predicted,
        seed=settings.seed,
        repeats=settings.repeats,
        advance=stage(of("bootstrapping"), len(predicted) + 3),
        extra={"baselines": baselines.as_dict(), "two_speed": speeds, "robustness": flips},
    )
