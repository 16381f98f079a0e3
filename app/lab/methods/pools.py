"""Fits how many neighbours vote on a prompt's pool: the paper takes 10."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.fit import quantise_scores
from app.lab.ground import Advance, Ground
from app.lab.methods.base import FittedMethod
from app.lab.methods.pairs import pairs_to_try
from app.routing.estimators.base import Array
from app.routing.estimators.pools import NO_POOL, pool_shares, pools_of, vote_share

VOTES = (5, 10, 20, 40, 80)


def fit_pools(ground: Ground, advance: Advance | None = None) -> FittedMethod:
    """Chooses the votes of least squared error out of fold, over pairs of models: of the share for
    the less able one against which pool the row is in. Raises DataError where no two models share
    a row.
    """
    pairs = pairs_to_try(ground)
    if not pairs:
        raise DataError(
            "no two models were scored on one prompt, so no prompt is in a pool; "
            "train another --estimator"
        )
    scores = quantise_scores(ground.table.scores)
    errors = [_errors(ground, scores[:, pair]) for pair in pairs]
    error = np.mean([e for e in errors if e is not None] or [np.zeros(len(VOTES))], axis=0)
    return FittedMethod(
        "pools",
        settings={
            "votes": VOTES[int(np.argmin(error))],
            "tried": {
                str(votes): round(float(e), 5) for votes, e in zip(VOTES, error, strict=True)
            },
        },
    )


def _errors(ground: Ground, scores: NDArray[np.uint8]) -> Array | None:
    """Mean squared error for each number of votes; None where no row has a pooled neighbour."""
    pools = pools_of(scores)
    shares = pool_shares(pools, ground.fitted.row_clusters, (len(ground.fitted.table.ease), 2))
    prior = shares[ground.fitted.row_clusters, 0]
    rows = np.flatnonzero(pools != NO_POOL)
    near = ground.unseen.rows[rows]
    seen = np.where(near >= 0, pools[near], NO_POOL)
    rank = np.cumsum(seen != NO_POOL, axis=1)
    rows, seen, rank = (array[rank[:, -1] > 0] for array in (rows, seen, rank))
    if not len(rows):
        return None
    small = (pools[rows] == 0).astype(np.float64)
    errors = []
    for votes in VOTES:
        voting = (seen != NO_POOL) & (rank <= votes)
        share = vote_share(((seen == 0) & voting).sum(axis=1), voting.sum(axis=1), prior[rows])
        errors.append(float(((share - small) ** 2).mean()))
    return np.array(errors)
