"""A trained router as a directory: what is in it, opened without copying, and bound to a route's
candidates.

Arrays are memory-mapped, so worker processes share their pages. Opening checks version and sizes,
which catches what happens to files; `verify` checks every byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.config.names import nearest
from app.errors import ArtifactError
from app.routing.estimators.base import Candidate, Estimator
from app.routing.estimators.clusters import ClusterTable, ClusterVotes, Standing
from app.routing.estimators.frame import RouterEstimator, most_of_cell
from app.routing.estimators.kinds import KINDS
from app.routing.estimators.knn import KnnSettings, Neighbourhood
from app.routing.estimators.lengths import LengthTable
from app.routing.estimators.method import Known, Method
from app.routing.estimators.mixture import Whole, mixed
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.rows import Rows
from app.routing.index import VectorIndex
from app.routing.joined import FILES as JOINED_FILES
from app.routing.joined import JoinedModels, read_joined
from app.routing.model_names import ModelNames
from app.routing.promise import Promise, read_promises

FORMAT = "pointsman-router"
VERSION = 3
MANIFEST_FILE = "manifest.json"
INDEX_FILE = "vectors.faiss"
IDS_FILE = "ids.txt"
PROMPTS_FILE = "prompts.npy"
QUESTIONS_FILE = "questions.npy"
"""Fingerprints of what it was trained on, for the lab; serving does not read them."""
ARRAYS = (
    "scores",
    "tokens",
    "task_codes",
    "row_clusters",
    "difficulty",
    "relative",
    "usual_support",
    "cells",
    "counts",
    "ability",
    "ease",
    "spread",
    "cluster_weights",
    "wordiness",
    "cluster_length",
)
FILES = (INDEX_FILE, IDS_FILE, PROMPTS_FILE, QUESTIONS_FILE, *(f"{name}.npy" for name in ARRAYS))
"""What every router has. The arrays of its kind are listed in the manifest."""

OWN_SUPPORT = 8.0
LIKE_SUPPORT = 5.0
STATED_SUPPORT = 5.0
UNKNOWN_SUPPORT = 1.0
"""How many observations a candidate's standing is worth before any neighbour is seen.

Ability carried over to prompts it was not measured on was wrong by .07 to .23 (found by leaving a
source out), which is what 4 to 40 observations would be.
"""


@dataclass(frozen=True)
class Artifact:
    """An opened router. `models` are those it was trained on, `joined` those that came later."""

    directory: Path
    manifest: Mapping[str, Any]
    models: tuple[str, ...]
    encoder_fingerprint: str
    index: VectorIndex
    arrays: Mapping[str, NDArray[Any]]
    names: ModelNames
    method_arrays: Mapping[str, NDArray[Any]]
    joined: JoinedModels | None = None

    @property
    def all_models(self) -> tuple[str, ...]:
        """Those it was trained on, then those that joined."""
        return self.models + (() if self.joined is None else tuple(self.joined.models))

    def knows(self, name: str) -> str | None:
        """The known model that a name means, however it is spelt; one that joined counts."""
        return self.names.find(name)

    def estimator(self, candidates: Sequence[Candidate]) -> Estimator:
        """Quality estimates for these candidates, in this order. Takes a few milliseconds; do it
        once a route.
        """
        standings = tuple(self._standing(candidate) for candidate in candidates)
        known = self._known()
        neighbourhood = Neighbourhood(known.scores_of(standings), known.knn)
        return RouterEstimator(
            candidates,
            standings,
            method=self._method(known, standings),
            prior=known.prior(standings),
            votes=ClusterVotes(
                known.row_clusters, len(known.table.ease), known.knn.vote_temperature
            ),
            index=self.index,
            neighbourhood=neighbourhood,
            lengths=self._lengths().for_candidates(standings),
            novelty=NoveltyScale(**self.manifest["fitted"]["novelty"]),
            count=known.knn.count,
            rows=Rows(
                scores=self.arrays["scores"],
                task_codes=self.arrays["task_codes"],
                tasks=self.manifest["tasks"],
                ids_file=self.directory / IDS_FILE,
            ),
            usual_support=usual_support(known, standings),
        )

    @cached_property
    def whole(self) -> Whole:
        """Its method for all models that it was trained on, which is what a model joins; every
        route with one shares it.
        """
        known = self._known()
        every = [
            Standing(column, float(ability), True, OWN_SUPPORT)
            for column, ability in enumerate(self.arrays["ability"])
        ]
        return Whole(KINDS[self.kind](known, every), known.prior(every))

    @property
    def kind(self) -> str:
        """Which method it holds: a name of `KINDS`."""
        return str(self.manifest["estimator"]["kind"])

    @property
    def reads_text(self) -> bool:
        """Whether it estimates from the words alone, without a vector."""
        return bool(self.manifest["estimator"]["reads_text"])

    @property
    def guarantees(self) -> tuple[Promise, ...]:
        """What `pointsman calibrate` has promised for it. Raises ArtifactError if damaged."""
        return read_promises(self.directory, MANIFEST_FILE).guarantees

    def verify(self) -> None:
        """Checks every file against its hash. Raises ArtifactError naming those that differ."""
        wrong = [
            name
            for name, stated in self.manifest["files"].items()
            if sha256((self.directory / name).read_bytes()).hexdigest() != stated["sha256"]
        ]
        if wrong:
            raise ArtifactError(
                f"router {self.directory}: altered since it was trained: {', '.join(wrong)}"
            )

    def _standing(self, candidate: Candidate) -> Standing:
        table = self._table()
        for name, exact in ((candidate.name, True), (candidate.like, False)):
            known = self.knows(name) if name else None
            if known is not None:
                support = OWN_SUPPORT if exact else LIKE_SUPPORT
                if self.joined is not None and known in self.joined.models:
                    return self.joined.standing(known, exact, support, self.models, table)
                column = self.models.index(known)
                return Standing(column, float(table.ability[column]), exact, support)
        if candidate.quality is not None:
            return Standing(None, table.ability_for(candidate.quality), False, STATED_SUPPORT)
        return Standing(None, float(np.median(table.ability)), False, UNKNOWN_SUPPORT)

    def _method(self, known: Known, standings: Sequence[Standing]) -> Method:
        bind = KINDS[self.kind]
        rows = [standing.joined.row for standing in standings if standing.joined is not None]
        if self.joined is None or not rows:
            return bind(known, standings)
        plain = [standing for standing in standings if standing.joined is None]
        return mixed(
            bind(known, plain) if plain else None,
            self.whole,
            self.joined.mixtures(rows, self.models),
            np.array([standing.joined is not None for standing in standings]),
        )

    def _table(self) -> ClusterTable:
        arrays = self.arrays
        return ClusterTable(
            cells=arrays["cells"],
            counts=arrays["counts"],
            ability=arrays["ability"],
            ease=arrays["ease"],
            spread=arrays["spread"],
            weights=arrays["cluster_weights"],
        )

    def _known(self) -> Known:
        return Known(
            models=self.models,
            scores=self.arrays["scores"],
            row_clusters=self.arrays["row_clusters"],
            difficulty=self.arrays["difficulty"],
            relative=self.arrays["relative"],
            usual_support=self.arrays["usual_support"],
            table=self._table(),
            knn=KnnSettings(**self.manifest["fitted"]["knn"]),
            arrays=self.method_arrays,
            settings=self.manifest["estimator"]["settings"],
        )

    def _lengths(self) -> LengthTable:
        return LengthTable(
            codes=self.arrays["tokens"],
            wordiness=self.arrays["wordiness"],
            cluster_length=self.arrays["cluster_length"],
            overall=_or_nan(self.manifest["fitted"]["overall_length"]),
        )


def load_artifact(directory: Path) -> Artifact:
    """Opens a router. Raises ArtifactError where it is missing, of another version, cut short or
    inconsistent.
    """
    manifest = _read_manifest(directory)
    _check_sizes(directory, manifest)
    index = VectorIndex.open(directory / INDEX_FILE, manifest["index"]["probes"])
    arrays = {name: _open_array(directory / f"{name}.npy") for name in ARRAYS}
    own = {name: _open_array(directory / method_file(name)) for name in _own(directory, manifest)}
    models = tuple(manifest["models"])
    joined = read_joined(directory, manifest, index.dimensions, len(arrays["ease"]))
    rows = manifest["rows"]
    if index.rows != rows or arrays["scores"].shape != (rows, len(models)):
        raise ArtifactError(
            f"router {directory}: parts do not belong together: {rows} rows and {len(models)} "
            f"models in the manifest, {index.rows} rows in the index, "
            f"scores of {arrays['scores'].shape}"
        )
    return Artifact(
        directory=directory,
        manifest=manifest,
        models=models,
        encoder_fingerprint=manifest["encoder"]["fingerprint"],
        index=index,
        arrays=arrays,
        names=ModelNames((*models, *(joined.models if joined is not None else ()))),
        method_arrays=own,
        joined=joined,
    )


def method_file(array: str) -> str:
    """The file of an array of the router's kind."""
    return f"method-{array}.npy"


def usual_support(known: Known, standings: Sequence[Standing]) -> NDArray[np.float64]:
    """(M,) support of a prompt like the outcomes, where its neighbours are not looked up."""
    columns = known.columns(standings)
    near = np.where(columns < 0, 0.0, known.usual_support[columns])
    counts = known.table.weights @ known.prior(standings).counts
    cell = np.minimum(counts, most_of_cell(standings))
    return np.asarray(near + cell)


def _own(directory: Path, manifest: Mapping[str, Any]) -> Sequence[str]:
    """Names of the arrays of its kind. Raises ArtifactError for a kind of another release."""
    stated = manifest.get("estimator")
    kind = stated.get("kind") if isinstance(stated, Mapping) else stated
    if not isinstance(stated, Mapping) or kind not in KINDS:
        hint = nearest(str(kind), KINDS) or f"valid: {', '.join(KINDS)}"
        raise ArtifactError(
            f"router {directory}: its estimator is {kind!r}, which this release does not know; "
            f"{hint}; train it again"
        )
    missing = [name for name in ("reads_text", "arrays", "settings") if name not in stated]
    if missing:
        raise ArtifactError(
            f"router {directory}: {MANIFEST_FILE} lacks estimator.{missing[0]}; train it again"
        )
    return tuple(stated["arrays"])


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    try:
        manifest = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"router {directory}: cannot read {MANIFEST_FILE}: {error.strerror or error}; "
            "make it with `pointsman train`"
        ) from error
    except orjson.JSONDecodeError as error:
        raise ArtifactError(f"router {directory}: {MANIFEST_FILE} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"router {directory}: {MANIFEST_FILE} does not describe a router")
    if manifest.get("version") != VERSION:
        raise ArtifactError(
            f"router {directory}: version {manifest.get('version')} of the format, "
            f"this release reads {VERSION}; train it again"
        )
    return manifest


def _check_sizes(directory: Path, manifest: Mapping[str, Any]) -> None:
    stated = manifest.get("files", {})
    own = tuple(method_file(array) for array in _own(directory, manifest))
    for name in (*FILES, *own, *(JOINED_FILES if manifest.get("joined") else ())):
        if name not in stated:
            raise ArtifactError(f"router {directory}: the manifest does not list {name}")
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"router {directory}: {name} is missing")
        size = path.stat().st_size
        if size != stated[name]["bytes"]:
            raise ArtifactError(
                f"router {directory}: {name} is truncated or altered: {size} bytes, "
                f"the manifest says {stated[name]['bytes']}"
            )


def _open_array(path: Path) -> NDArray[Any]:
    try:
        # A plain view of the mapping: indexing the memmap class costs ten times as much.
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"router {path.parent}: {path.name} cannot be read: {error}") from error
    return array


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
