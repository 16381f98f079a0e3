"""Models that joined a trained router from some hundred scored prompts, as its directory keeps
them: each a weighted sum of known models' log-odds, and a small head on the vector for what is its
own.

The manifest says what each was made of and from; arrays lie beside it.
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
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterTable, JoinedStanding, Standing
from app.routing.estimators.mixture import Mixtures
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
    known models + its row of the heads times the vector - `centre`. `doubt` is how much the vector
    changes it against the known models, 0 where the router's kind does not read text.
    """

    name: str = Field(min_length=1)
    weights: Mapping[str, float] = Field(min_length=1)
    bias: float
    centre: float
    doubt: float = Field(ge=0)
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

    def weights_of(self, known: Sequence[str]) -> Array:
        """(known,) in the order of these models."""
        return np.array([self.weights.get(name, 0.0) for name in known])


@dataclass(frozen=True)
class JoinedModels:
    """All that joined a router, by name, with their rows of `heads` and `counts`."""

    models: Mapping[str, Joined]
    heads: NDArray[np.float32]
    counts: NDArray[np.float32]

    def standing(
        self, name: str, exact: bool, most: float, known: Sequence[str], table: ClusterTable
    ) -> Standing:
        """What is known of it before the query is seen; it is worth `most` at most. `known` are the
        router's models, with their `table`.
        """
        model, row = self.models[name], list(self.models).index(name)
        return Standing(
            column=None,
            ability=float("nan"),  # What its clusters say takes the place.
            exact=exact,
            support=min(model.support, most),
            joined=JoinedStanding(
                row=row,
                log_odds=table.cells @ model.weights_of(known) + model.bias,
                counts=BORROWED * self.counts[row].astype(np.float64),
                wordiness=model.wordiness,
            ),
        )

    def mixtures(self, rows: Sequence[int], known: Sequence[str]) -> Mixtures:
        """Those at these rows, of the router's models."""
        models = list(self.models.values())
        chosen = [models[row] for row in rows]
        return Mixtures(
            weights=np.array([model.weights_of(known) for model in chosen]),
            bias=np.array([model.bias for model in chosen]),
            heads=self.heads[list(rows)],
            centre=np.array([model.centre for model in chosen]),
            doubt=np.array([model.doubt for model in chosen]),
        )


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
