"""OrchestraLLM's pools (Lee et al., NAACL 2024): a prompt goes to the expert whose pool its nearest
known prompts lie in.

There, of two experts, a prompt that both got right is in the small one's pool, one that only one
got right in that one's, and one that both got wrong in none; the ten nearest vote. Here there may
be any number of candidates, ranked by ability, which stands for price where none is known: a prompt
is in the pool of the least able one that got it right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import Standing
from app.routing.estimators.knn import MISSING, SCORE_STEPS
from app.routing.estimators.method import Known, Near

NO_POOL = -1
RIGHT = SCORE_STEPS // 2
"""Quantised score, a half, from which an answer counts as right."""

_CLUSTER_ROWS = 10.0
"""Rows' worth of the overall shares that a cluster's own are shrunk by."""


class PoolVotes:
    """Bound to a route's candidates; see the module.

    The quality of a candidate is the share of votes for its pool and those of weaker ones: the
    chance that it, or a weaker one, suffices, where any of them does. So the gain of the strong one
    of a pair is the share of votes for it, and a gain of a half, a win rate of three quarters, is
    the paper's majority vote.
    One more vote is shared out: half of it goes to the least able, so that a tie does too, and half
    by the cluster, which ranks prompts with equal votes and never overrules one. A candidate
    without any outcomes is in no vote and has nan, as have all where no neighbour is in a pool.
    """

    def __init__(
        self,
        pools: NDArray[np.int16],
        shares: Array,
        columns: NDArray[np.intp],
        candidates: int,
        votes: int,
    ) -> None:
        """`columns` says which candidate each pool is of, the least able first; `shares` is of
        `pool_shares`.
        """
        self._pools = pools
        self._shares = shares
        self._columns = columns
        self._candidates = candidates
        self._votes = votes

    def quality(self, near: Near) -> Array:
        quality = np.full(self._candidates, np.nan)
        pools = self._pools[near.rows]
        pools = pools[pools != NO_POOL][: self._votes]
        if len(pools):
            votes = np.bincount(pools, minlength=len(self._columns)).cumsum()
            quality[self._columns] = vote_share(votes, len(pools), near.shares @ self._shares)
        return quality


def vote_share(votes: Array, total: int, prior: Array) -> Array:
    """Of `votes` at or below each model out of `total`, with one more: half of it for the least
    able, half by the prior.
    """
    return np.asarray((votes + 0.5 + 0.5 * prior) / (total + 1.0))


def pools_of(scores: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Which model's pool each row is in, for quantised scores (rows, models), least able first.

    A row is in a pool only where every weaker model was tried and failed: else one of them might
    have sufficed.
    """
    if not scores.shape[1]:
        return np.full(len(scores), NO_POOL, dtype=np.int16)
    right = (scores >= RIGHT) & (scores != MISSING)
    first = np.argmax(right, axis=1)
    tried = np.cumsum(scores != MISSING, axis=1)[np.arange(len(scores)), first] == first + 1
    return np.where(right.any(axis=1) & tried, first, NO_POOL).astype(np.int16)


def pool_shares(
    pools: NDArray[np.int16], row_clusters: NDArray[np.uint16], shape: tuple[int, int]
) -> Array:
    """Of each cluster's pooled rows, how many are in the pool of each model or a weaker one, shrunk
    to the share over all; of `shape` (clusters, models).
    """
    pooled = pools != NO_POOL
    counts = np.zeros(shape)
    np.add.at(counts, (row_clusters[pooled], pools[pooled]), 1.0)
    overall = counts.sum(axis=0) / max(1.0, counts.sum())
    shares = (counts + _CLUSTER_ROWS * overall) / (
        counts.sum(axis=1, keepdims=True) + _CLUSTER_ROWS
    )
    return np.asarray(np.minimum(shares.cumsum(axis=1), 1.0))


def bind_pools(known: Known, standings: Sequence[Standing]) -> PoolVotes:
    scores = known.scores_of(standings)
    ranked = np.argsort([standing.ability for standing in standings], kind="stable")
    columns = ranked[(scores != MISSING).any(axis=0)[ranked]]
    pools = pools_of(scores[:, columns])
    shape = (len(known.table.ease), len(columns))
    return PoolVotes(
        pools,
        pool_shares(pools, known.row_clusters, shape),
        columns,
        len(standings),
        known.settings["votes"],
    )
