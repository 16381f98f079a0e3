"""The fit of a model that joins, where the truth is known."""

import numpy as np
import pytest

from app.lab.joining import JoinSettings, fit_mixture
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

MODELS, PROMPTS = 12, 200
NEW = np.array([0.6, -0.4, 0.4, *np.zeros(MODELS - 4), 0.4])
"""Weights of the new model; they sum to 1."""


def world(seed: int) -> tuple[Array, Array, Array]:
    """Predicted log-odds and scores of known models, and scores of the new one: a prompt is harder
    or easier than predicted for all of them.
    """
    rng = np.random.default_rng(seed)
    known = rng.normal(0.0, 0.7, (PROMPTS, 1)) + rng.normal(0.0, 0.6, (PROMPTS, MODELS))
    surprise = rng.normal(0.0, 1.5, (PROMPTS, 1))
    others = (rng.random(known.shape) < sigmoid(known + surprise)).astype(float)
    scores = (rng.random(PROMPTS) < sigmoid(known @ NEW + surprise[:, 0])).astype(float)
    return known, others, scores


def shares_explained(seed: int) -> tuple[float, float]:
    """Correlation with the true log-odds on other prompts: with and without the known scores."""
    known, others, scores = world(seed)
    fresh, vectors = world(1_000 + seed)[0], np.zeros((PROMPTS, 2), dtype=np.float32)
    found = []
    for seen in (others, np.full_like(others, np.nan)):
        fitted = fit_mixture(known, seen, scores, vectors, JoinSettings())
        found.append(np.corrcoef(fitted.log_odds(fresh, vectors), fresh @ NEW)[0, 1])
    return found[0], found[1]


def test_known_scores_on_the_same_prompts_leave_less_noise() -> None:
    pairs = np.array([shares_explained(seed) for seed in range(12)])
    assert pairs[:, 0].mean() > pairs[:, 1].mean() + 0.02, pairs.mean(axis=0)


def test_the_level_stays_right_when_the_surprise_is_unknown() -> None:
    known, others, scores = world(5)
    vectors = np.zeros((PROMPTS, 2), dtype=np.float32)
    fitted = fit_mixture(known, others, scores, vectors, JoinSettings())
    assert sigmoid(fitted.log_odds(known, vectors)).mean() == pytest.approx(scores.mean(), abs=0.03)


def test_without_a_vector_only_the_head_is_missing() -> None:
    known, others, scores = world(6)
    vectors = np.random.default_rng(0).normal(size=(PROMPTS, 4)).astype(np.float32)
    fitted = fit_mixture(known, others, scores, vectors, JoinSettings())
    own = fitted.log_odds(known, vectors) - fitted.by_words(known)
    assert own.mean() == pytest.approx(0.0, abs=1e-6)
    assert own.std() > 0.01
