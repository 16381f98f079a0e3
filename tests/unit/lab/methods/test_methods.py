"""Every kind that needs nothing but outcomes, on a world whose truth is known: it is fitted,
written, opened and useful, and fitting it again gives the same.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from app.errors import DataError
from app.lab.ground import Ground
from app.lab.methods import FITS
from app.lab.methods.pairs import pairs_to_try
from app.lab.outcomes import OutcomeTable, build_table
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows, true_quality
from app.lab.train import TrainSettings, prepare
from app.routing.artifact import Artifact
from app.routing.estimators.base import Candidate, Query

Routed = Callable[[Ground, str], Artifact]
KINDS = (
    "blend",
    "pools",
    "similarity-weighted",
    "matrix-factorization",
    "meta-regression",
    "text",
    "stack",
)
MODELS = ("small", "medium", "large")


def gains(artifact: Artifact, table: OutcomeTable, strong: str, weak: str) -> np.ndarray:
    estimator = artifact.estimator([Candidate(strong), Candidate(weak)])
    qualities = np.array(
        [
            estimator.estimate(Query(prompt, vector)).quality
            for prompt, vector in zip(
                table.prompts, WordEncoder().encode(table.prompts), strict=True
            )
        ]
    )
    assert ((qualities >= 0) & (qualities <= 1)).all()
    return qualities[:, 0] - qualities[:, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_finds_where_the_strong_model_gains(ground: Ground, routed: Routed, kind: str) -> None:
    fresh = build_table(synthetic_rows(300, seed=2))
    gain = gains(routed(ground, kind), fresh, "large", "small")
    truth = np.array([true_quality("large", t) - true_quality("small", t) for t in fresh.tasks])
    assert np.corrcoef(gain, truth)[0, 1] > 0.5
    assert gain.mean() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_any_candidates_will_do(ground: Ground, routed: Routed, kind: str) -> None:
    """In any order, with some that have no outcomes, or none that have."""
    artifact = routed(ground, kind)
    vector = WordEncoder().encode([" ".join(TOPICS["proofs"][1].split()[:6])])[0]
    names = ("large", "new", "small", "medium")
    forward = artifact.estimator([Candidate(n, quality=0.5) for n in names])
    backward = artifact.estimator([Candidate(n, quality=0.5) for n in names[::-1]])
    quality = forward.estimate(Query("", vector)).quality
    assert np.isfinite(quality).all()
    assert quality[0] > quality[2]
    assert quality == pytest.approx(backward.estimate(Query("", vector)).quality[::-1])
    for only in ([Candidate("new")], [Candidate("small")], [Candidate("a"), Candidate("b")]):
        assert np.isfinite(artifact.estimator(only).estimate(Query("", vector)).quality).all()


@pytest.mark.parametrize("kind", ["blend", "pools", "similarity-weighted", "matrix-factorization"])
def test_missing_scores_and_few_rows_are_survived(routed: Routed, kind: str) -> None:
    table = build_table(synthetic_rows(60, seed=3))
    holes = np.random.default_rng(0).random(table.scores.shape) < 0.4
    holes[holes.all(axis=1), 0] = False
    table.scores[holes] = np.nan
    ground = prepare(table, WordEncoder().encode(table.prompts), TrainSettings())
    assert np.isfinite(gains(routed(ground, kind), table, "large", "small")).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_again_gives_the_same(ground: Ground, kind: str) -> None:
    first, second = FITS[kind](ground), FITS[kind](ground)
    assert first.kind == kind
    assert first.settings == second.settings
    assert first.arrays.keys() == second.arrays.keys()
    for name in first.arrays:
        assert first.arrays[name].tobytes() == second.arrays[name].tobytes()


@pytest.mark.parametrize("kind", ["pools", "similarity-weighted"])
def test_nothing_to_compare_is_refused(ground: Ground, kind: str) -> None:
    scores = ground.table.scores.copy()
    for row in range(len(scores)):
        scores[row, [c for c in range(3) if c != row % 3]] = np.nan
    apart = replace(ground, table=replace(ground.table, scores=scores))
    with pytest.raises(DataError, match="no two models were scored on one prompt"):
        FITS[kind](apart)


def test_pairs_to_try_have_rows_in_common_and_the_less_able_first(ground: Ground) -> None:
    pairs = pairs_to_try(ground)
    names = [tuple(ground.table.models[column] for column in pair) for pair in pairs]
    assert sorted(names) == [("medium", "large"), ("small", "large"), ("small", "medium")]


def test_the_votes_chosen_are_many_where_labels_are_noise(ground: Ground) -> None:
    """A score depends on the topic alone, so the more neighbours the better, up to a point."""
    settings = FITS["pools"](ground).settings
    assert settings["votes"] >= 20
    assert settings["tried"][str(settings["votes"])] == min(settings["tried"].values())
