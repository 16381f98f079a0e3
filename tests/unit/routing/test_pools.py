"""Pools by hand: whose a prompt is, how the nearest vote, and where a tie goes."""

import numpy as np
import pytest

from app.routing.estimators.knn import MISSING
from app.routing.estimators.method import Near
from app.routing.estimators.pools import NO_POOL, PoolVotes, pool_shares, pools_of

R, W, M = 254, 0, MISSING


def near(rows: list[int], clusters: int = 1) -> Near:
    flat = np.ones(len(rows), dtype=np.float32)
    shares = np.eye(clusters)[0]
    return Near("", np.zeros(2, np.float32), np.array(rows), flat, flat, shares)


def test_a_prompt_is_in_the_pool_of_the_least_able_model_that_got_it_right() -> None:
    scores = np.array([[R, R], [W, R], [R, W], [W, W]], dtype=np.uint8)
    assert pools_of(scores).tolist() == [0, 1, 0, NO_POOL]


def test_a_prompt_is_in_no_pool_where_a_weaker_model_was_not_tried() -> None:
    scores = np.array([[M, R, R], [W, M, R], [W, R, M], [R, M, M], [M, M, M]], dtype=np.uint8)
    assert pools_of(scores).tolist() == [NO_POOL, NO_POOL, 1, 0, NO_POOL]


def test_half_a_score_counts_as_right() -> None:
    assert pools_of(np.array([[126, 254], [127, 254]], dtype=np.uint8)).tolist() == [1, 0]


def votes(pools: list[int], count: int, columns: list[int], candidates: int) -> PoolVotes:
    array = np.array(pools, dtype=np.int16)
    shares = pool_shares(array, np.zeros(len(pools), dtype=np.uint16), (1, len(columns)))
    return PoolVotes(array, shares, np.array(columns), candidates, count)


def test_the_nearest_vote_and_rows_in_no_pool_do_not() -> None:
    method = votes([1, NO_POOL, 0, 0, 1, 1], 3, [1, 0], 2)
    strong, weak = method.quality(near([0, 1, 2, 3, 4, 5]))
    assert strong == 1.0, "one of both suffices, where any does"
    assert weak == pytest.approx((2 + 0.5 + 0.5 * 0.4) / 4)


@pytest.mark.parametrize(("rows", "strong"), [([0, 1, 2, 3], False), ([0, 1, 2], True)])
def test_a_tie_goes_to_the_small_model_and_a_majority_stands(rows: list[int], strong: bool) -> None:
    # All other rows are the strong model's, so the cluster speaks for it.
    method = votes([1, 1, 0, 0] + [1] * 100, 10, [0, 1], 2)
    quality = method.quality(near(rows))
    assert (quality[1] - quality[0] > 0.5) == strong


def test_equal_votes_rank_by_cluster() -> None:
    pools = np.array([1] * 30 + [0] * 30, dtype=np.int16)
    shares = pool_shares(pools, (np.arange(60) // 30).astype(np.uint16), (2, 2))
    method = PoolVotes(pools, shares, np.array([0, 1]), 2, 2)
    at = near([0, 40], clusters=2)
    hard = method.quality(at)
    easy = method.quality(
        Near("", at.vector, at.rows, at.similarities, at.weights, np.array([0.0, 1.0]))
    )
    assert hard[0] < easy[0]


def test_a_candidate_in_no_vote_and_a_query_without_pooled_neighbours_are_unknown() -> None:
    method = votes([0, 1, NO_POOL], 2, [2, 0], 3)
    quality = method.quality(near([0, 1]))
    assert np.isnan(quality).tolist() == [False, True, False]
    assert np.isnan(method.quality(near([2]))).all()
