"""The stack: what is served is what was fitted, whatever panels there are."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from app.errors import DataError
from app.lab.ground import Ground
from app.lab.methods import FITS
from app.lab.methods.boosting import BoostSettings, boost
from app.lab.outcomes import build_table
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows
from app.lab.train import TrainSettings, prepare
from app.routing.artifact import Artifact
from app.routing.estimators.base import Candidate, Query
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.levels import knots
from app.routing.estimators.stack import Combiner, Finish
from app.routing.estimators.trees import LEAVES, Trees
from app.routing.estimators.views import Layout, NeighbourView

Routed = Callable[[Ground, str], Artifact]
PAIR = [Candidate("large"), Candidate("small")]


def noisy(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 5)).astype(np.float32)
    return inputs, np.sin(inputs[:, 0]) + (inputs[:, 3] > 0.5) + rng.normal(size=rows) / 4


def packed(inputs: np.ndarray, target: np.ndarray, settings: BoostSettings) -> tuple[Trees, object]:
    made = boost(inputs, target, settings, seed=0)
    arrays = [array[None] for array in made.pack(np.arange(inputs.shape[1]))]
    return Trees.select(arrays, [0]), made


@pytest.mark.parametrize("bags", [1, 2])
def test_served_trees_say_what_the_library_says(bags: int) -> None:
    inputs, target = noisy(2_000, 0)
    trees, made = packed(inputs, target, BoostSettings(rounds=40, fewest=20, bags=bags))
    fresh, truth = noisy(300, 1)
    served = np.array([trees.predict(row)[0] for row in fresh])
    assert served == pytest.approx(made.predict(fresh), abs=1e-5)
    assert np.corrcoef(served, truth)[0, 1] > 0.8
    at_a_threshold = np.tile(trees.thresholds[0, :1], (1, 5))
    served = trees.predict(at_a_threshold[0])[0]
    assert served == pytest.approx(made.predict(at_a_threshold)[0], abs=1e-5)


def test_trees_that_find_nothing_to_split_on_add_nothing() -> None:
    trees, _ = packed(np.zeros((50, 2), dtype=np.float32), np.full(50, 0.25), BoostSettings())
    assert trees.leaves.shape == (BoostSettings().rounds, LEAVES)
    assert trees.predict(np.ones(2, dtype=np.float32)) == pytest.approx([0.25], abs=1e-6)


def test_many_prompts_are_seen_as_one_is() -> None:
    """The lab looks at many at once, serving at one."""
    rng = np.random.default_rng(0)
    layout = Layout(starts=(0, 2, 5), models=((0, 1), (1, 2, 3)))
    members = (rng.random((200, 2)) < 0.6).astype(np.float32)
    departures = rng.normal(size=(200, 5)).astype(np.float32)
    departures *= np.repeat(members, [2, 3], axis=1)
    view = NeighbourView.of(departures.astype(np.float16), members.astype(np.uint8), layout)
    rows = rng.integers(0, 200, (7, 160))
    similarities = -np.sort(-rng.random((7, 160)).astype(np.float32), axis=1)
    by_vector = rng.normal(size=(7, 5)).astype(np.float32)
    whole = view.look(rows, similarities, by_vector)
    for at in range(7):
        for many, one in zip(
            whole, view.look(rows[at], similarities[at], by_vector[at]), strict=True
        ):
            assert one == pytest.approx(many[at], rel=1e-4, abs=1e-5)


def test_without_neighbours_of_a_panel_the_vector_speaks() -> None:
    layout = Layout(starts=(0, 2), models=((0, 1),))
    view = NeighbourView.of(np.zeros((10, 2)), np.zeros((10, 1)), layout)
    near = np.arange(10), np.full(10, 0.9, dtype=np.float32)
    by_vector = np.array([0.3, -0.2], dtype=np.float32)
    wide, _, sharp, _ = view.look(*near, by_vector)
    assert wide == pytest.approx(by_vector)
    assert sharp == pytest.approx(by_vector)


def test_beyond_what_a_panel_has_seen_its_line_is_level() -> None:
    trees = Trees(
        np.zeros((0, 7), np.int64), np.zeros((0, 7), np.float32), np.zeros((0, 8), np.float32), 1
    )
    line = Combiner(
        trees,
        linear=np.array([[2.0, -1.0]], dtype=np.float32),
        bias=np.array([0.5]),
        low=np.array([[0.0, -1.0]], dtype=np.float32),
        high=np.array([[1.0, -1.0]], dtype=np.float32),
    )
    for features, expected in (((0.5, -1.0), 2.5), ((9.0, -1.0), 3.5), ((-9.0, 70.0), 1.5)):
        found = line.departures(np.array(features, dtype=np.float32))
        assert found == pytest.approx([expected])


def test_calibration_moves_the_level_and_not_the_difference() -> None:
    finish = Finish(
        mean=np.array([0.6, 0.4]),
        directions=np.array([[1.0, 0.7], [1.0, -0.7]]),
        curves=np.stack([sigmoid(6.0 * knots() - 3.0), sigmoid(3.0 * knots() - 1.5)]),
    )
    for easy in (-0.2, 0.0, 0.2):
        quality = finish.quality(np.array([easy, 0.1]))
        assert quality[0] - quality[1] == pytest.approx(0.2 + 0.14)
    levels = [finish.quality(np.array([easy, 0.1])).mean() for easy in (-0.2, 0.0, 0.2)]
    assert levels == sorted(levels)


def test_words_say_how_much_they_may_be_wrong_and_when_they_are_strange(
    ground: Ground, routed: Routed
) -> None:
    artifact = routed(ground, "stack")
    estimator = artifact.estimator(PAIR)
    assert artifact.reads_text
    assert estimator.reads_text
    known = estimator.estimate(Query(ground.table.prompts[0], None))
    assert known.doubt is not None
    assert (known.doubt > 0).all()
    assert (known.doubt < 0.3).all()
    strange = estimator.estimate(Query("zyx wvu tsr qpo nml kji", None))
    assert strange.novelty == 1.0
    assert known.novelty < 0.5


def test_the_text_kind_has_nothing_to_gain_from_a_vector(ground: Ground, routed: Routed) -> None:
    estimator = routed(ground, "text").estimator(PAIR)
    prompt = ground.table.prompts[0]
    words = estimator.estimate(Query(prompt, None))
    full = estimator.estimate(Query(prompt, WordEncoder().encode([prompt])[0]))
    assert words.quality == pytest.approx(full.quality, abs=1e-6)
    assert words.doubt == pytest.approx([0.0, 0.0])


def test_candidates_are_compared_where_they_were_scored_together(routed: Routed) -> None:
    """Of prompts on law a larger panel knows one candidate only: what it makes of them must not
    decide between the two.
    """
    together = synthetic_rows(300, seed=1, models=("small", "large"), source="together")
    apart = [
        row
        for row in synthetic_rows(2_000, seed=2, models=("small", "medium"), source="apart")
        if row.task == "law"
    ]
    table = build_table(together + apart)
    ground = prepare(table, WordEncoder().encode(table.prompts), TrainSettings())
    method = routed(ground, "stack").estimator(PAIR)._method
    asked = {len(method._panels[at].places) for at in range(2)}
    assert asked == {1, 2}, "one panel has both, the other only the small one"
    law = " ".join(TOPICS["law"][1].split()[:6])
    for near in ([0.0, 1.0], [1.0, 0.0]):
        worth = [n * panel.usual_worth for n, panel in zip(near, method._panels, strict=True)]
        assert len(method._panels[method._choose(worth)].places) == 2
    only = routed(ground, "stack").estimator([Candidate("medium"), Candidate("small")])
    quality = only.estimate(Query(law, WordEncoder().encode([law])[0])).quality
    assert quality[0] > quality[1], "medium has a bent for law"


@pytest.mark.parametrize("kind", ["text", "stack"])
def test_without_prompts_in_common_there_is_no_stack(ground: Ground, kind: str) -> None:
    scores = ground.table.scores.copy()
    for row in range(len(scores)):
        scores[row, [c for c in range(3) if c != row % 3]] = np.nan
    apart = replace(ground, table=replace(ground.table, scores=scores))
    with pytest.raises(DataError, match="choose --estimator knn"):
        FITS[kind](apart)
