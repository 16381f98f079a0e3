"""The training of the matrix factorisation: its gradients, and what preferences may teach."""

from dataclasses import replace

import numpy as np
import pytest

from app.lab.ground import Ground
from app.lab.methods.factors import FactorSettings, _first, _gradients, _Rows, _train, fit_factors
from app.lab.synthetic import TOPICS, WordEncoder
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.factors import Factors, unit

SETTINGS = FactorSettings(epochs=1, noise=0.0, width=5, pairs=3)


def loss(weights: dict[str, np.ndarray], rows: _Rows, at: np.ndarray) -> float:
    """Written once more, cell by cell, with pairs drawn as `_gradients` draws them."""
    factors = Factors(**weights, known=np.ones(3, dtype=np.bool_))
    first, second = rows.pairs(at, SETTINGS.pairs, np.random.default_rng(7))
    total = 0.0
    for place, row in enumerate(at):
        vector = np.append(rows.vectors[rows.rows[row]], 1.0)
        level = vector @ factors.level
        delta = vector @ (factors.projection * factors.output) @ unit(factors.models).T
        for column in range(3):
            score, chance = rows.scores[row, column], sigmoid(level + delta[column])
            cross = score * np.log(chance) + (1 - score) * np.log(1 - chance)
            total -= rows.share[row, column] * cross
        for one, other in zip(first[place], second[place], strict=True):
            better = rows.scores[row, one] - rows.scores[row, other]
            gap = np.sign(better) * (delta[one] - delta[other])
            total -= abs(better) * np.log(sigmoid(gap)) / SETTINGS.pairs
    return float(total / len(at))


def with_holes(ground: Ground) -> Ground:
    scores = ground.table.scores[:40].copy()
    scores[::3, 0] = np.nan
    scores[1::5] = [[np.nan, 0.25, np.nan]]
    table = ground.table.take(np.arange(40))
    relative = np.arange(40) % 4 == 0
    return replace(ground, table=replace(table, scores=scores, relative=relative))


def test_gradients_are_those_of_the_loss(ground: Ground) -> None:
    rows, at = _Rows(with_holes(ground), np.arange(40)), np.arange(0, 40, 2)
    weights = {
        name: array.astype(np.float64)
        for name, array in _first(rows, SETTINGS, np.random.default_rng(0)).items()
    }
    found = _gradients(weights, rows, at, SETTINGS, np.random.default_rng(7))  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    for name, gradient in found.items():
        for _ in range(5):
            place = tuple(int(rng.integers(size)) for size in gradient.shape)
            ends = []
            for step in (1e-4, -1e-4):
                moved = {key: array.copy() for key, array in weights.items()}
                moved[name][place] += step
                ends.append(loss(moved, rows, at))
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=2e-4), name


def test_pairs_are_of_two_scored_models(ground: Ground) -> None:
    rows = _Rows(with_holes(ground), np.arange(40))
    first, second = rows.pairs(np.arange(40), 50, np.random.default_rng(0))
    several = rows.counts > 1
    assert (first != second)[several].all()
    assert (first == second)[~several].all()
    assert not np.isnan(
        with_holes(ground).table.scores[np.arange(40)[:, None], np.stack([first, second])]
    ).any()


def test_one_linear_map_is_the_papers_product(ground: Ground) -> None:
    factors = _train(_Rows(ground, np.arange(200)), replace(SETTINGS, epochs=2), 0)
    vector = ground.vectors[0]
    hidden = vector @ factors.projection[:-1] + factors.projection[-1]
    delta = (unit(factors.models) * hidden) @ factors.output
    level = vector @ factors.level[:-1] + factors.level[-1]
    assert vector @ factors.heads()[:-1] + factors.heads()[-1] == pytest.approx(
        delta + level, abs=1e-5
    )


def qualities(factors: Factors) -> np.ndarray:
    vectors = WordEncoder().encode([" ".join(words.split()) for _, words in TOPICS.values()])
    heads = factors.heads()
    return sigmoid(vectors @ heads[:-1] + heads[-1])


def test_preferences_move_differences_and_not_the_level(ground: Ground) -> None:
    """All rows are preferences: nothing is known of how good an answer is, only whose is better."""
    relative = np.ones(len(ground.table), dtype=np.bool_)
    only = replace(ground, table=replace(ground.table, relative=relative))
    rows = _Rows(only, np.arange(len(ground.table)))
    factors = _train(rows, FactorSettings(epochs=6), 0)
    assert not factors.level.any()
    small, large = (ground.table.columns[name] for name in ("small", "large"))
    assert (qualities(factors)[:, large] > qualities(factors)[:, small]).all()
    method = fit_factors(only)
    assert method.kind == "matrix-factorization"


def test_a_model_without_any_outcome_is_not_known(ground: Ground) -> None:
    scores = ground.table.scores.copy()
    scores[:, 1] = np.nan
    rows = _Rows(replace(ground, table=replace(ground.table, scores=scores)), np.arange(100))
    assert _train(rows, SETTINGS, 0).known.tolist() == [True, False, True]
