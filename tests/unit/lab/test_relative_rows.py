"""Win rates teach which model is better and not how good any is, alone and beside scores."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.lab.ground import Ground
from app.lab.methods.smoothed import fit_weights
from app.lab.outcomes import Outcome, OutcomeRow, build_table
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows, true_quality
from app.lab.train import TrainSettings, prepare
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.knn import MISSING, KnnSettings, LocalEvidence, kernel

MODELS = ("large", "medium", "small")


def preferences(count: int, seed: int, pairs: Sequence[tuple[str, str]]) -> list[OutcomeRow]:
    """Two models of each synthetic row compared: whichever is right where only one is."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in synthetic_rows(count, seed, source="arena"):
        first, second = pairs[int(rng.integers(len(pairs)))]
        share = 0.5 + 0.5 * (row.outcomes[first].score - row.outcomes[second].score)
        rates = {first: Outcome(share), second: Outcome(1.0 - share)}
        rows.append(OutcomeRow(row.id, "arena", row.task, row.prompt, rates, "preferences"))
    return rows


def prepared(rows: list[OutcomeRow]) -> Ground:
    table = build_table(rows)
    return prepare(table, WordEncoder().encode(table.prompts), TrainSettings())


def by_topic(ground: Ground) -> np.ndarray:
    """(topics, models) mean quality that the clusters give rows of each topic."""
    quality = sigmoid(ground.fitted.prior())
    tasks = np.array(ground.table.tasks)
    return np.array([quality[tasks == topic].mean(axis=0) for topic in TOPICS])


ALL_PAIRS = [("large", "small"), ("medium", "small"), ("large", "medium")]
TRUTH = np.array([[true_quality(model, topic) for model in MODELS] for topic in TOPICS])


def test_preferences_alone_rank_models_and_leave_the_level_open() -> None:
    ground = prepared(preferences(2000, 5, ALL_PAIRS))
    assert ground.table.relative.all()
    quality = by_topic(ground)
    large, medium, small = ground.fitted.table.ability
    assert large > medium > small
    assert quality.mean() == pytest.approx(0.5, abs=0.02)
    assert not ground.fitted.difficulty.any()
    gains, truth = quality[:, 0] - quality[:, 2], TRUTH[:, 0] - TRUTH[:, 2]
    assert np.corrcoef(gains, truth)[0, 1] > 0.6
    assert gains.mean() == pytest.approx(truth.mean(), abs=0.08)


@pytest.mark.parametrize("count", [300, 3000])
def test_preferences_beside_scores_do_not_move_the_level(count: int) -> None:
    scored = synthetic_rows(600, 1)
    alone, mixed = prepared(scored), prepared(scored + preferences(count, 6, ALL_PAIRS))
    before, after = by_topic(alone).mean(axis=1), by_topic(mixed).mean(axis=1)
    assert after == pytest.approx(before, abs=0.06)
    assert after.mean() == pytest.approx(before.mean(), abs=0.02)


def test_preferences_place_a_model_that_has_no_scores() -> None:
    """`large` is in comparisons only; on the scale that scores have set for the others."""
    scored = synthetic_rows(1500, 1, models=("medium", "small"))
    mixed = prepared(scored + preferences(1500, 6, [("large", "small"), ("large", "medium")]))
    quality = by_topic(mixed)
    assert (quality[:, 0] > quality[:, 2]).all()
    assert quality[:, 0].mean() == pytest.approx(TRUTH[:, 0].mean(), abs=0.1)


def test_weights_ignore_the_level_of_preferences() -> None:
    """A term that moves all models alike explains the level alone: it is followed where there are
    scores and not where there are win rates."""
    rng = np.random.default_rng(0)
    common = np.repeat(rng.normal(size=(500, 1)), 2, axis=1)
    own = np.array([[0.5, -0.5]]) * rng.normal(size=(500, 1))
    scores = sigmoid(common + own).astype(np.float32)
    assert fit_weights((common, own), scores) == pytest.approx([1.0, 1.0], abs=0.02)
    relative = np.arange(500) < 250
    scores[relative] = sigmoid(own[relative])
    assert fit_weights((common, own), scores, relative)[0] == pytest.approx(1.0, abs=0.1)
    assert fit_weights((common, own), scores)[0] < 0.7


def test_a_neighbour_of_win_rates_has_differences_only() -> None:
    """Among neighbours that both models get right by their prior, one wins every comparison."""
    scores = np.tile(np.array([[254, 0]], dtype=np.uint8), (20, 1))
    scores[15:, 1] = MISSING
    args = (scores, np.full((20, 2), 2.0), np.full(20, 1.0), KnnSettings())
    weights = kernel(np.full(20, 0.8, dtype=np.float32), KnnSettings())
    shift = LocalEvidence(*args, np.ones(20, dtype=np.bool_)).shift(np.arange(20), weights)
    assert shift.common == 0.0
    assert shift.own[0] == pytest.approx(-shift.own[1], rel=0.3)
    alone = LocalEvidence(*args, np.ones(20, dtype=np.bool_)).shift(np.arange(15, 20), weights[15:])
    assert alone.own == pytest.approx([0.0, 0.0]), "a model compared with none of the others"
    as_scores = LocalEvidence(*args).shift(np.arange(20), weights)
    assert as_scores.common > 0.5
    assert abs(as_scores.own[1]) > 3 * as_scores.own[0]
