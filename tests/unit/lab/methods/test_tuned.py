"""The classifier kind: heads are found, calibrated on what tuning kept out, and stand alone in the
router.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.errors import ArtifactError, DataError
from app.lab.ground import Ground
from app.lab.methods.platt import fit_platt
from app.lab.methods.tuned import AS_THEY_ARE, fit_tuned
from app.lab.outcomes import split_position
from app.lab.synthetic import true_quality
from app.routing.artifact import Artifact
from app.routing.estimators.base import Candidate, Query
from app.routing.estimators.classifier import (
    ClassifierHeads,
    PairHead,
)
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.method import Near
from app.routing.estimators.tuned import PairGain, TunedHead
from tests.unit.lab.methods.conftest import MODELS, true_heads

Routed = Callable[[Ground, str], Artifact]


def pair_head() -> PairHead:
    """P(strong wins) rises with the first number of the vector."""
    weights = np.zeros((33, 3), dtype=np.float32)
    weights[0, 0] = 8.0
    return PairHead(weights)


def test_the_router_needs_nothing_of_the_encoder_but_vectors(
    ground: Ground, routed: Routed, encoder: Callable[..., Path]
) -> None:
    directory = encoder(true_heads())
    artifact = routed(replace(ground, encoder=directory), "classifier")
    for path in directory.iterdir():
        path.unlink()
    artifact.verify()
    names = ("small", "new", "large")
    estimator = artifact.estimator([Candidate(name, quality=0.5) for name in names])
    quality = np.array([estimator.estimate(Query("", v)).quality for v in ground.vectors[:200]])
    for column, name in ((0, "small"), (2, "large")):
        truth = np.array([true_quality(name, task) for task in ground.table.tasks[:200]])
        assert np.abs(quality[:, column] - truth).mean() < 0.1
        assert np.corrcoef(quality[:, column], truth)[0, 1] > 0.8
    assert ((quality[:, 1] > 0) & (quality[:, 1] < 1)).all(), "of `new` the clusters know"


def test_heads_are_calibrated_on_what_tuning_kept_out(
    ground: Ground, encoder: Callable[..., Path]
) -> None:
    """Log-odds three times too large and too low are set right, on the rows between the shares."""
    wrong, right = true_heads(3.0, -2.0), true_heads()
    directory = encoder(wrong, test_share=0.5)
    method = fit_tuned(replace(ground, encoder=directory))
    kept_out = sum(split_position(prompt) < 0.5 for prompt in ground.table.prompts)
    assert method.settings["calibration_rows"] == kept_out
    assert method.settings["calibrated_models"] == 3
    truth = right.quality(ground.vectors)
    before = np.abs(wrong.quality(ground.vectors) - truth).mean()
    after = np.abs(ClassifierHeads(method.arrays["heads"]).quality(ground.vectors) - truth).mean()
    assert after < 0.3 * before


def test_heads_are_left_alone_where_tuning_saw_every_row(
    ground: Ground, encoder: Callable[..., Path]
) -> None:
    heads = true_heads(3.0)
    seen = np.flatnonzero([split_position(prompt) >= 0.15 for prompt in ground.table.prompts])
    rows = replace(ground, table=ground.table.take(seen), vectors=ground.vectors[seen])
    method = fit_tuned(replace(rows, encoder=encoder(heads, test_share=0.15)))
    assert method.settings == {"pair": None, "calibration_rows": 0, "calibrated_models": 0}
    assert np.array_equal(method.arrays["heads"], heads.weights)
    relative = np.ones(len(ground.table), dtype=np.bool_)
    rates = replace(ground, table=replace(ground.table, relative=relative))
    method = fit_tuned(replace(rates, encoder=encoder(heads, test_share=0.5)))
    assert method.settings["calibration_rows"] == 0, "a win rate is no quality"


def test_the_pair_ranks_by_the_chance_that_the_strong_model_wins(
    ground: Ground, routed: Routed, encoder: Callable[..., Path]
) -> None:
    artifact = routed(
        replace(ground, encoder=encoder(true_heads(), pair=pair_head())), "classifier"
    )
    pair = artifact.manifest["estimator"]["settings"]["pair"]
    scores = ground.table.scores
    assert (pair["strong"], pair["weak"], pair["won"]) == ("large", "small", 1.0)
    assert pair["lost"] == pytest.approx((scores[:, 0] < scores[:, 2]).mean(), abs=1e-6)
    vectors = ground.vectors[:100]
    wins = pair_head().strong_wins(vectors)
    familiar = [Query("", vector) for vector in vectors]
    for names in (("large", "small"), ("small", "large")):
        estimator = artifact.estimator([Candidate(name) for name in names])
        estimates = [estimator.estimate(query) for query in familiar]
        gain = np.array([e.quality[0] - e.quality[1] for e in estimates])
        gain = gain if names[0] == "large" else -gain
        known = np.array([e.novelty == 0.0 for e in estimates])
        assert gain[known] == pytest.approx(wins[known] - pair["lost"], abs=1e-6)
    three = artifact.estimator([Candidate(name) for name in MODELS])
    alone = artifact.estimator([Candidate("large"), Candidate("medium")])
    query = familiar[int(np.argmax(known))]
    assert three.estimate(query).quality[:2] == pytest.approx(alone.estimate(query).quality)


def test_a_pair_stays_in_bounds_and_keeps_its_gain() -> None:
    heads = ClassifierHeads(np.array([[0.0, 0.0], [5.0, 4.0]], dtype=np.float32))
    head = PairHead(np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32))
    method = TunedHead(heads, PairGain(1, 0, head, 1.0, 0.0))
    vector = np.array([1.0], dtype=np.float32)
    one = np.ones(1, dtype=np.float32)
    weak, strong = method.quality(Near("", vector, np.arange(1), one, one, np.ones(1)))
    assert strong - weak == pytest.approx(head.strong_wins(vector[None, :])[0])
    assert 0.0 <= weak <= strong <= 1.0


def test_what_is_missing_is_said(ground: Ground, encoder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="--objective classifier"):
        fit_tuned(ground)
    with pytest.raises(DataError, match="tuned on outcomes of x, y, z"):
        fit_tuned(replace(ground, encoder=encoder(true_heads(), models=("x", "y", "z"))))
    short = ClassifierHeads(true_heads().weights[:5])
    with pytest.raises(ArtifactError, match="read 4 dimensions, the vectors have 32"):
        fit_tuned(replace(ground, encoder=encoder(short)))
    directory = encoder(true_heads())
    manifest = orjson.loads((directory / "manifest.json").read_bytes())
    del manifest["heads"]
    (directory / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match="it has no heads"):
        fit_tuned(replace(ground, encoder=directory))


def test_platt_scaling_finds_slope_and_shift_and_few_rows_change_little() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=20_000) * 2
    scores = (rng.random(20_000) < sigmoid(0.5 * log_odds - 1.0)).astype(np.float64)
    assert fit_platt(log_odds, scores, AS_THEY_ARE) == pytest.approx([0.5, -1.0], abs=0.05)
    assert fit_platt(log_odds[:2], scores[:2], AS_THEY_ARE) == pytest.approx([1.0, 0.0], abs=0.6)
    assert fit_platt(log_odds, 1.0 - (log_odds > 0), AS_THEY_ARE)[0] == 0.0, "never upside down"
    assert fit_platt(log_odds[:0], scores[:0], AS_THEY_ARE) == pytest.approx([1.0, 0.0])
