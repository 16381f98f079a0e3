"""Models that joined a trained router from some hundred scored prompts, as its directory keeps
them: each a weighted sum of known models' log-odds, and a small head on the vector for what is its
own.

The manifest says what each was made of and from; arrays lie beside it. The estimator's method is
bound to the parts and never hears of mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ArtifactError
from app.routing.estimators.clusters import Standing
from app.routing.estimators.frame import Mixture
from app.routing.promise import DataFile

HEADS_FILE = "joined-heads.npy"
COUNTS_FILE = "joined-counts.npy"
FILES = (HEADS_FILE, COUNTS_FILE)
"""(models, d) float32, and (models, clusters) float32 of prompts it joined from; only where a
model joined."""

SUPPORT_PER_PROMPT = 0.2
BORROWED = 4.0
"""What a joined model's prompts are worth: each so much before the query is seen, up to the
standing of a trained one, and each of the query's cluster so much again, since what known models do
there carries over.

Means over clusters were predicted as if by 12, 19, 26, 40 and 52 observations from 30, 60, 100, 200
and 400 prompts of the same kind, and as if by 10, 14, 15, 17 and 22 where the prompts were of other
tasks; a trained model's as if by 46. This says 11, 18, 24, 40 and 40, and 6 to 8.
"""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Joining(_Stored):
    """How well the mixture says what the prompts' scores were, as mean log-losses: on the same
    prompts, cross-validated by question, of the known model that says it best with one shift, also
    cross-validated, and of the prompts' mean score alone.
    """

    log_loss: float
    cross_validated: float
    best_known: str
    best_known_cross_validated: float
    mean_alone: float


class Joined(_Stored):
    """One model. In log-odds its quality is `bias` + the sum of `weights` times the quality of
    known models + its row of the heads times the vector - `centre`.
    """

    name: str = Field(min_length=1)
    weights: Mapping[str, float] = Field(min_length=1)
    bias: float
    centre: float
    spread: float = Field(ge=0)
    wordiness: float | None = None
    prompts: int = Field(gt=0)
    mean_score: float
    mean_predicted: float
    fitted: Joining
    date: str
    data: tuple[DataFile, ...]
    sources: tuple[str, ...]

    @property
    def support(self) -> float:
        """What it is worth before the query is seen, were there no limit."""
        return SUPPORT_PER_PROMPT * self.prompts


@dataclass(frozen=True)
class JoinedModels:
    """All that joined a router, by name, with their rows of `heads` and `counts`."""

    models: Mapping[str, Joined]
    heads: NDArray[np.float32]
    counts: NDArray[np.float32]

    def row(self, name: str) -> int:
        return list(self.models).index(name)

    def standing(self, name: str, exact: bool, most: float) -> Standing:
        """What is known of it before the query is seen; it is worth `most` at most."""
        model = self.models[name]
        return Standing(
            column=None,
            ability=float("nan"),  # Its parts have theirs.
            exact=exact,
            support=min(model.support, most),
            counts=BORROWED * self.counts[self.row(name)].astype(np.float64),
            wordiness=model.wordiness,
        )

    def mix(
        self,
        standings: Sequence[Standing],
        joined: Sequence[str | None],
        known: Sequence[str],
        abilities: NDArray[np.float32],
    ) -> tuple[tuple[Standing, ...], Mixture]:
        """What to bind the method to, and how the candidates come of it. `joined` says which of
        them are such models; `known` are the router's, with their `abilities`.
        """
        parts = [s for s, name in zip(standings, joined, strict=True) if name is None]
        places = {s.column: at for at, s in enumerate(parts) if s.column is not None}
        for name in joined:
            for part in self.models[name].weights if name is not None else ():
                column = known.index(part)
                if column not in places:
                    places[column] = len(parts)
                    parts.append(Standing(column, float(abilities[column]), True, 0.0))
        weights = np.zeros((len(standings), len(parts)))
        heads = np.zeros((len(standings), self.heads.shape[1]), dtype=np.float32)
        bias, centre, spread = np.zeros((3, len(standings)))
        plain = 0
        for at, name in enumerate(joined):
            if name is None:
                weights[at, plain] = 1.0
                plain += 1
                continue
            model = self.models[name]
            for part, weight in model.weights.items():
                weights[at, places[known.index(part)]] += weight
            bias[at], centre[at], spread[at] = model.bias, model.centre, model.spread
            heads[at] = self.heads[self.row(name)]
        return tuple(parts), Mixture(weights, bias, heads, centre, spread)


def read_joined(
    directory: Path, manifest: Mapping[str, Any], dimensions: int, clusters: int
) -> JoinedModels | None:
    """Those of a router, None where there are none. Raises ArtifactError where they do not fit."""
    stated = manifest.get("joined") or []
    if not stated:
        return None
    try:
        found = [Joined.model_validate(each) for each in stated]
    except ValidationError as error:
        raise ArtifactError(
            f"router {directory}: the manifest's entry `joined` can't be read: "
            f"{error.errors()[0]['msg']} at {'.'.join(map(str, error.errors()[0]['loc']))}; "
            "join the model again with `pointsman add-model`"
        ) from error
    models = {each.name: each for each in found}
    unknown = {part for each in found for part in each.weights} - set(manifest["models"])
    heads, counts = (_open(directory / name) for name in FILES)
    if (
        unknown
        or len(models) != len(found)
        or heads.shape != (len(found), dimensions)
        or counts.shape != (len(found), clusters)
    ):
        raise ArtifactError(
            f"router {directory}: models that joined do not belong to it: {len(found)} in the "
            f"manifest, heads of {heads.shape}, counts of {counts.shape}, unknown parts "
            f"{sorted(unknown)}"
        )
    return JoinedModels(models, heads, counts)


def _open(path: Path) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"router {path.parent}: {path.name} cannot be read: {error}") from error
    return array
