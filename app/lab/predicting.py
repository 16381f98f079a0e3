"""What a router predicts for the prompts of a trial, through the estimator that serving uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.lab.trial import Predicted
from app.routing.artifact import Artifact
from app.routing.estimators.base import Candidate, Query
from app.routing.objective import Quality

Vectors = NDArray[np.float32]


def predict(
    artifact: Artifact,
    models: Sequence[str],
    prompts: Sequence[str],
    vectors: Vectors | None,
    advance: Callable[[int], None] | None = None,
) -> Predicted:
    """Quality of each model for each prompt, (n, m), with the lower bound that the objective
    `quality` asks for by default. From the words alone where `vectors` is None.
    """
    estimator = artifact.estimator([Candidate(name) for name in models])
    level = 2 * Quality().confidence - 1
    quality, low = np.empty((2, len(prompts), len(models)))
    for row, prompt in enumerate(prompts):
        vector = None if vectors is None else vectors[row]
        estimate = estimator.estimate(Query(prompt, vector))
        quality[row], low[row] = estimate.quality, estimate.interval(level)[0]
        if advance is not None:
            advance(1)
    return Predicted(quality, low)
