"""A model joins a trained router: its scored prompts in, the directory with one entry more out.

Nothing that was trained changes, so nothing known is predicted otherwise and promises stand. What
the new model was fitted on joins the fingerprints of what was trained on.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.config.names import nearest
from app.errors import DataError
from app.lab.fingerprints import prompt_fingerprints, question_fingerprints, read_fingerprints
from app.lab.fit import Vectors
from app.lab.joining import FittedMixture, JoinSettings, fit_mixture, losses
from app.lab.outcomes import OutcomeTable
from app.lab.predicting import predict
from app.routing.artifact import MANIFEST_FILE, PROMPTS_FILE, QUESTIONS_FILE, Artifact
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterVotes, log_odds_of, sigmoid
from app.routing.index import VectorIndex
from app.routing.joined import COUNTS_FILE, HEADS_FILE, Joined, JoinedModels, Joining
from app.routing.model_names import ModelNames, canonical_name
from app.routing.promise import PROMISES_FILE, DataFile, read_promises

FEWEST_PROMPTS = 30
SAME = 0.98
"""So similar is a prompt to itself, compressed as the index may be."""
_SPARE = 20
UNFIT = {
    "pools": "a prompt has a pool only where all models asked for were tried, and a model joins by "
    "what is said of all known ones at once"
}
"""Kinds that no model can join, and why."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model that joins, with its rows of the arrays."""

    entry: Joined
    head: NDArray[np.float32]
    counts: NDArray[np.float32]
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a router says of all models that it was trained on, on some prompts, as log-odds
    (n, models): with vectors, and from the words alone where its kind reads text. `scored` is what
    the files say of them there, nan where they say nothing.
    """

    full: Array
    words: Array | None
    scored: Array


def check_kind(artifact: Artifact) -> None:
    """Raises DataError where no model can join a router of this kind."""
    if artifact.kind in UNFIT:
        raise DataError(
            f"router {artifact.directory}: a model can't join a router of the kind "
            f"{artifact.kind}: {UNFIT[artifact.kind]}; train it again with these outcomes, or "
            "another kind"
        )


def check_name(artifact: Artifact, name: str, *, may_replace: bool) -> None:
    """Raises DataError where the router knows the model already and it may not be replaced."""
    known = artifact.knows(name)
    if known is None:
        return
    if known in artifact.models:
        raise DataError(
            f"`{name}` is {known}, on whose outcomes the router was trained; to use these as well, "
            "train it again with them"
        )
    if not may_replace:
        raise DataError(f"`{name}` is {known}, which joined already; --replace fits it anew")


def rows_of(table: OutcomeTable, name: str) -> tuple[OutcomeTable, str]:
    """The rows with a score of the model, and its name in the files.

    Raises DataError where there are none, too few, or all scores are the same.
    """
    column = ModelNames(table.models).find(name)
    if column is None:
        hint = nearest(canonical_name(name), table.models) or (
            f"they know {len(table.models)} others"
        )
        raise DataError(f"the files have no outcomes of `{name}` ({hint})")
    scored = ~np.isnan(table.scores[:, table.columns[column]])
    rows = np.flatnonzero(scored & ~table.relative)
    if len(rows) < FEWEST_PROMPTS:
        compared = int((scored & table.relative).sum())
        told = f"; {compared} comparisons have no level and do not count" if compared else ""
        raise DataError(
            f"{len(rows)} prompts with a score of {column}: at least {FEWEST_PROMPTS} are needed, "
            f"200 are a good number{told}"
        )
    found = table.take(rows)
    scores = found.scores[:, table.columns[column]]
    if scores.min() == scores.max():
        raise DataError(
            f"field score: all {len(rows)} scores of {column} are {scores[0]:g}, so they do not "
            "say what it is good at; give it easier or harder prompts too"
        )
    return found, column


def ask(
    artifact: Artifact, table: OutcomeTable, vectors: Vectors, advance: Advance | None = None
) -> Asked:
    """Asks the router as if it had not seen the prompts: for those that it was trained on,
    neighbours that are the prompt itself do not count.
    """
    trained = read_fingerprints(artifact.directory / QUESTIONS_FILE)
    seen = np.isin(question_fingerprints(table.prompts), trained)
    quality = np.empty((len(table), len(artifact.models)))
    blind = replace(artifact, index=_Others(artifact.index))
    for rows, router in ((np.flatnonzero(seen), blind), (np.flatnonzero(~seen), artifact)):
        prompts = [table.prompts[row] for row in rows]
        quality[rows] = predict(router, artifact.models, prompts, vectors[rows], advance).quality
    words = None
    if artifact.whole.reads_text:
        words = log_odds_of(np.stack([artifact.whole.read(p).quality for p in table.prompts]))
    return Asked(log_odds_of(quality), words, _scored(artifact, table))


def join(
    artifact: Artifact,
    table: OutcomeTable,
    vectors: Vectors,
    known: Asked,
    column: str,
    files: Sequence[Path],
    settings: JoinSettings | None = None,
) -> Newcomer:
    """Fits the model of `column` on rows from `rows_of`, with what `ask` found."""
    settings = settings or JoinSettings()
    scores = table.scores[:, table.columns[column]].astype(np.float64)
    fitted = fit_mixture(known.full, known.scored, scores, vectors, settings)
    loss = losses(table.prompts, known.full, known.scored, scores, vectors, settings)
    shares = _shares(artifact, vectors)
    entry = Joined(
        name=column,
        weights={
            name: float(weight)
            for name, weight in zip(artifact.models, fitted.weights, strict=True)
        },
        bias=fitted.bias,
        centre=fitted.centre,
        doubt=_doubt(fitted, known, vectors),
        wordiness=_wordiness(artifact, table.output_tokens[:, table.columns[column]], shares),
        prompts=len(table),
        mean_score=float(scores.mean()),
        mean_predicted=float(sigmoid(fitted.log_odds(known.full, vectors)).mean()),
        fitted=Joining(
            log_loss=loss.fitted,
            cross_validated=loss.cross_validated,
            best_known=artifact.models[loss.best_known],
            best_known_cross_validated=loss.best_known_cross_validated,
            mean_alone=loss.mean_alone,
        ),
        date=datetime.now(UTC).date().isoformat(),
        data=tuple(
            DataFile(file=path.name, sha256=sha256(path.read_bytes()).hexdigest()) for path in files
        ),
        sources=tuple(sorted(set(table.sources))),
    )
    return Newcomer(entry, fitted.head, shares.sum(axis=0).astype(np.float32), table.prompts)


def with_newcomer(artifact: Artifact, newcomer: Newcomer) -> Artifact:
    """The opened router with the model, not yet written."""
    before = artifact.joined
    models = dict(before.models) if before is not None else {}
    heads = dict(zip(models, before.heads, strict=True)) if before is not None else {}
    counts = dict(zip(models, before.counts, strict=True)) if before is not None else {}
    # The same model may have been spelt otherwise.
    if artifact.joined and (old := artifact.knows(newcomer.entry.name)) in models:
        for part in (models, heads, counts):
            part.pop(old)
    name = newcomer.entry.name
    models[name], heads[name], counts[name] = newcomer.entry, newcomer.head, newcomer.counts
    return replace(
        artifact,
        joined=JoinedModels(models, np.stack([*heads.values()]), np.stack([*counts.values()])),
        names=ModelNames((*artifact.models, *models)),
    )


def write_joined(artifact: Artifact, newcomer: Newcomer, out: Path) -> tuple[str, ...]:
    """Writes the router with the model to `out`, whole or not at all; that may be its own place.
    Promises are kept but for those about a model that is replaced: returns what became of them, in
    words.
    """
    joined = with_newcomer(artifact, newcomer).joined
    assert joined is not None
    directory = artifact.directory
    promises = read_promises(directory, MANIFEST_FILE)
    gone = artifact.knows(newcomer.entry.name)
    kept = tuple(each for each in promises.guarantees if gone not in (each.strong, *each.weak))
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        staged = Path(scratch) / "router"
        shutil.copytree(directory, staged)
        arrays: dict[str, NDArray[Any]] = {
            HEADS_FILE: joined.heads,
            COUNTS_FILE: joined.counts,
            PROMPTS_FILE: np.union1d(
                read_fingerprints(directory / PROMPTS_FILE), prompt_fingerprints(newcomer.prompts)
            ),
            QUESTIONS_FILE: np.union1d(
                read_fingerprints(directory / QUESTIONS_FILE),
                question_fingerprints(newcomer.prompts),
            ),
        }
        files = dict(artifact.manifest["files"])
        for name, array in arrays.items():
            (staged / name).unlink(missing_ok=True)
            np.save(staged / name, array, allow_pickle=False)
            content = (staged / name).read_bytes()
            files[name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        entries = [each.model_dump(mode="json") for each in joined.models.values()]
        manifest = {**artifact.manifest, "files": files, "joined": entries}
        written = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
        _put(staged / MANIFEST_FILE, written)
        if promises.guarantees:
            # Nothing that they are about has changed, so they now belong to this manifest.
            stands = promises.model_copy(
                update={"router": sha256(written).hexdigest(), "guarantees": kept}
            )
            _put(staged / PROMISES_FILE, (stands.model_dump_json(indent=2) + "\n").encode())
        if out.exists():
            out.rename(Path(scratch) / "previous")
        staged.rename(out)
    return _told(len(kept), len(promises.guarantees) - len(kept))


class _Others(VectorIndex):
    """An index that does not find what a query is nearly equal to."""

    def __init__(self, whole: VectorIndex) -> None:
        self._whole = whole
        self.rows, self.dimensions = whole.rows, whole.dimensions

    def search(
        self, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        similarities, rows = self._whole.search(vector, count + _SPARE)
        others = similarities < SAME
        return similarities[others][:count], rows[others][:count]


def _scored(artifact: Artifact, table: OutcomeTable) -> Array:
    """(n, models) scores of the router's models, nan where the files have none."""
    scored = np.full((len(table), len(artifact.models)), np.nan)
    for at, name in enumerate(table.models):
        known = artifact.knows(name)
        if known in artifact.models:
            column = artifact.models.index(known)
            missing = np.isnan(scored[:, column])
            scored[missing, column] = table.scores[missing, at]
    return scored


def _shares(artifact: Artifact, vectors: Vectors) -> Array:
    """(n, clusters): in which clusters the prompts lie."""
    clusters = len(artifact.arrays["ease"])
    knn = artifact.manifest["fitted"]["knn"]
    votes = ClusterVotes(artifact.arrays["row_clusters"], clusters, knn["vote_temperature"])
    shares = np.empty((len(vectors), clusters))
    for at, vector in enumerate(vectors):
        similarities, rows = artifact.index.search(vector, knn["count"])
        shares[at] = votes.shares(rows, similarities)
    return shares


def _wordiness(artifact: Artifact, tokens: NDArray[np.float32], shares: Array) -> float | None:
    """How much longer its answers are than usual ones in the prompts' clusters, as `fit_lengths`
    counts it; None where no length is known.
    """
    overall = artifact.manifest["fitted"]["overall_length"]
    measured = ~np.isnan(tokens)
    if overall is None or not measured.any():
        return None
    usual = shares[measured] @ artifact.arrays["cluster_length"].astype(np.float64)
    return float((tokens[measured].sum(dtype=np.float64) + overall) / (usual.sum() + overall))


def _doubt(fitted: FittedMixture, known: Asked, vectors: Vectors) -> float:
    """What the vector changes of the model against the known ones, a standard deviation."""
    if known.words is None:
        return 0.0
    changed = sigmoid(fitted.log_odds(known.full, vectors)) - sigmoid(fitted.by_words(known.words))
    known_changed = sigmoid(known.full) - sigmoid(known.words)
    return float((changed - known_changed.mean(axis=1)).std())


def _told(kept: int, dropped: int) -> tuple[str, ...]:
    told = []
    if kept:
        told.append(f"{kept} promises stand as before")
    if dropped:
        told.append(
            f"{dropped} promises were about the model as it was and are gone; run "
            "`pointsman calibrate` again"
        )
    return tuple(told)


def _put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
