"""Meta-regression: for each model a regression of its quality on the prompt (FORC, Šakota, Peyrard
and West 2024, arXiv 2308.06077), so that a model needs no prompt in common with any other.

The paper fine-tunes a language model to regress. Here boosted trees and a linear regression look at
the vector's principal components, the shape of the text, and difficulty: how hard the prompt is for
models in general, and how groups of them part on it, which heads on the vector learned from the
outcomes of all sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array, Vector
from app.routing.estimators.clusters import Standing
from app.routing.estimators.method import Known, Near
from app.routing.estimators.stack import Combiner, Finish, line_of
from app.routing.estimators.trees import Trees
from app.routing.estimators.views import Floats, VectorView
from app.routing.estimators.words import SCALARS, scalars


@dataclass(frozen=True, slots=True)
class PromptView:
    """What the regressions look at. `heads` (d + 26, v) and `bias` (v,) make difficulties and
    components of a vector with its scalars beside it; the standardised scalars follow as they are.
    """

    heads: Floats
    bias: Floats
    scalar_mean: Floats
    scalar_scale: Floats

    def look(self, text: str, vector: Vector) -> Floats:
        """(v + 26,). Without its text a prompt is of the usual shape."""
        standard = np.zeros(len(SCALARS), dtype=np.float32)
        if text:
            standard = (scalars(text) - self.scalar_mean) / self.scalar_scale
        return self.features(vector, standard)

    def features(self, vectors: Floats, standard: Floats) -> Floats:
        """(..., v + 26) for vectors (..., d) and standardised scalars (..., 26)."""
        seen = VectorView.inputs(vectors, standard) @ self.heads + self.bias
        return np.concatenate((seen, standard), axis=-1)


class MetaRegression:
    """Bound to a route's candidates; see the module. Of a model with too few outcomes for a
    regression of its own it knows nothing.
    """

    def __init__(
        self,
        view: PromptView,
        combiner: Combiner,
        finish: Finish,
        places: NDArray[np.intp],
        count: int,
    ) -> None:
        """The outputs of `combiner` belong to the candidates at `places` among `count`."""
        self._view = view
        self._combiner = combiner
        self._finish = finish
        self._places = places
        self._count = count

    def quality(self, near: Near) -> Array:
        quality = np.full(self._count, np.nan)
        if len(self._places):
            features = self._view.look(near.text, near.vector)
            quality[self._places] = self._finish.quality(self._combiner.departures(features))
        return quality


def bind_regression(known: Known, standings: Sequence[Standing]) -> MetaRegression:
    arrays = known.arrays
    fitted = {int(column): at for at, column in enumerate(arrays["columns"])}
    columns = known.columns(standings)
    places = np.array([at for at, c in enumerate(columns) if int(c) in fitted], dtype=np.intp)
    chosen = np.array([fitted[int(columns[at])] for at in places], dtype=np.intp)
    trees = [arrays[f"regression_{name}"] for name in ("features", "thresholds", "leaves")]
    usual, worth = arrays["finish"][chosen].astype(np.float64).T
    return MetaRegression(
        PromptView(
            *(
                np.ascontiguousarray(arrays[name], dtype=np.float32)
                for name in ("heads", "bias", "scalar_mean", "scalar_scale")
            )
        ),
        Combiner(
            Trees.select(trees, chosen.tolist()),
            *line_of(arrays, "regression", chosen),
        ),
        Finish(usual, np.diag(worth), arrays["curves"][chosen].astype(np.float64)),
        places,
        len(standings),
    )
