"""Ability is told apart from how hard the prompts are that a model was scored on."""

import numpy as np
import pytest

from app.lab.item_response import Precisions, fit_item_response

ABILITY = np.array([0.0, 0.5, 1.5, -0.5, 0.0, 0.3, 0.6, 0.9, 1.2])
"""The first three are looked at; the others are scored everywhere and link the halves."""


def outcomes(rows: int, difficulty: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chance = 1.0 / (1.0 + np.exp(-(ABILITY[None, :] + difficulty[:, None])))
    return (rng.random((rows, len(ABILITY))) < chance).astype(np.float32)


def test_a_model_scored_on_the_hard_half_of_a_cluster_is_not_thought_weak() -> None:
    difficulty = np.repeat([2.0, -2.0], 1500)
    scores = outcomes(3000, difficulty)
    scores[:1500, 2] = np.nan
    scores[1500:, 0] = np.nan
    means = np.nanmean(scores, axis=0)
    assert means[2] < means[0]
    fit = fit_item_response(scores, np.zeros(3000, dtype=np.intp), 1, Precisions())
    assert fit.cells[0, 2] > fit.cells[0, 0] + 0.5
    assert fit.difficulty[:1500].mean() > fit.difficulty[1500:].mean() + 1.0
    assert fit.spread[0] > 1.0


def test_easy_clusters_and_bents_are_found() -> None:
    clusters = np.repeat([0, 1], 1000)
    scores = outcomes(2000, np.where(clusters == 0, 1.0, -1.0))
    rng = np.random.default_rng(1)
    scores[clusters == 1, 0] = rng.random(1000) < 0.9
    fit = fit_item_response(scores, clusters, 2, Precisions())
    assert fit.ease[0] > fit.ease[1]
    assert fit.cells[1, 0] > fit.cells[1, 1] + 1.0
    assert fit.cells[0, 0] < fit.cells[0, 2]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_model_always_right_or_wrong_stays_finite(score: float) -> None:
    scores = outcomes(50, np.zeros(50))
    scores[:, 1] = score
    fit = fit_item_response(scores, np.zeros(50, dtype=np.intp), 1, Precisions())
    for values in (fit.ability, fit.ease, fit.cells, fit.difficulty, fit.spread):
        assert np.isfinite(values).all()
        assert np.abs(values).max() < 10


def test_a_row_without_outcomes_has_no_difficulty() -> None:
    scores = outcomes(20, np.zeros(20))
    scores[3] = np.nan
    fit = fit_item_response(scores, np.zeros(20, dtype=np.intp), 1, Precisions())
    assert fit.difficulty[3] == 0.0
