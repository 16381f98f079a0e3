"""The meta-regression: a regression of its own for each model with enough outcomes, whatever
prompts the others answered, and what is served is what was fitted.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.errors import DataError
from app.lab.ground import Ground
from app.lab.methods import FITS
from app.lab.methods.boosting import BoostSettings
from app.lab.methods.panels import find_panels
from app.lab.methods.regression import FEWEST_OUTCOMES, _departures, _look, regress
from app.lab.outcomes import Outcome, OutcomeRow, OutcomeTable, build_table
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows, true_quality
from app.lab.train import TrainSettings, prepare
from app.routing.artifact import Artifact
from app.routing.estimators.base import Candidate, Query

Routed = Callable[[Ground, str], Artifact]
KIND = "meta-regression"
MODELS = ("large", "medium", "small")
PAIR = ("large", "small")
GAIN = np.array([1.0, -1.0])


def prepared(table: OutcomeTable) -> Ground:
    return prepare(table, WordEncoder().encode(table.prompts), TrainSettings())


def qualities(artifact: Artifact, table: OutcomeTable, models: Sequence[str]) -> np.ndarray:
    estimator = artifact.estimator([Candidate(model) for model in models])
    vectors = WordEncoder().encode(table.prompts)
    asked = zip(table.prompts, vectors, strict=True)
    return np.array([estimator.estimate(Query(*each)).quality for each in asked])


def truth(table: OutcomeTable, models: Sequence[str]) -> np.ndarray:
    return np.array([[true_quality(model, task) for model in models] for task in table.tasks])


def apart(table: OutcomeTable) -> OutcomeTable:
    """Of each prompt one model's answer only."""
    scores = table.scores.copy()
    rows, count = scores.shape
    scores[np.arange(count)[None, :] != np.arange(rows)[:, None] % count] = np.nan
    return replace(table, scores=scores)


@pytest.fixture(scope="module")
def artifact(ground: Ground, routed: Routed) -> Artifact:
    return routed(ground, KIND)


def test_tells_prompts_apart_better_than_the_models_means(
    ground: Ground, artifact: Artifact
) -> None:
    fresh = build_table(synthetic_rows(300, seed=2))
    known = truth(fresh, MODELS)
    found = qualities(artifact, fresh, MODELS)
    means = np.nanmean(ground.table.scores, axis=0)
    assert ((found - known) ** 2).mean() < 0.35 * ((means - known) ** 2).mean()


def test_models_need_no_prompts_in_common(routed: Routed) -> None:
    table = apart(build_table(synthetic_rows(1200, seed=4)))
    assert not find_panels(table)
    fresh = build_table(synthetic_rows(300, seed=2))
    found = qualities(routed(prepared(table), KIND), fresh, PAIR) @ GAIN
    assert np.corrcoef(found, truth(fresh, PAIR) @ GAIN)[0, 1] > 0.5


def test_a_model_with_few_outcomes_stands_where_its_clusters_put_it(
    ground: Ground, routed: Routed
) -> None:
    scores = ground.table.scores.copy()
    small = ground.table.columns["small"]
    scores[FEWEST_OUTCOMES - 1 :, small] = np.nan
    holes = np.random.default_rng(0).random(len(scores)) < 0.3
    scores[holes, ground.table.columns["medium"]] = np.nan
    few = prepared(replace(ground.table, scores=scores))
    artifact = routed(few, KIND)
    names = [artifact.models[column] for column in artifact.method_arrays["columns"]]
    assert names == ["large", "medium"]
    clusters = routed(few, "clusters")
    fresh = build_table(synthetic_rows(50, seed=2))
    found, usual = qualities(artifact, fresh, MODELS), qualities(clusters, fresh, MODELS)
    assert found[:, 2] == pytest.approx(usual[:, 2])
    assert not np.allclose(found[:, :2], usual[:, :2], atol=0.01)
    assert (found[:, 0] > found[:, 2]).mean() > 0.9


def test_nobody_with_enough_outcomes_is_refused(ground: Ground) -> None:
    scores = ground.table.scores.copy()
    scores[FEWEST_OUTCOMES - 1 :] = np.nan
    few = replace(ground, table=replace(ground.table, scores=scores))
    with pytest.raises(DataError, match="choose --estimator knn"):
        FITS[KIND](few)


def test_served_regressions_say_what_the_library_says(ground: Ground, artifact: Artifact) -> None:
    found = regress(ground, BoostSettings())
    names = [ground.table.models[column] for column in found.columns]
    method = artifact.estimator([Candidate(n) for n in names[::-1]])._method
    fresh = build_table(synthetic_rows(50, seed=2))
    for prompt, vector in zip(fresh.prompts, WordEncoder().encode(fresh.prompts), strict=True):
        served = method._combiner.departures(method._view.look(prompt, vector))[::-1]
        features = found.view.look(prompt, vector)
        for at, each in enumerate(found.combined):
            inputs = features[each.columns]
            trees = each.boosted[0].predict(inputs[None, :])[0]
            linear = (np.clip(inputs, each.low, each.high) @ each.linear + each.bias)[0]
            expected = each.mix * trees + (1.0 - each.mix) * linear
            assert served[at] == pytest.approx(expected, abs=2e-3), "leaves are kept as float16"


def test_without_its_text_a_prompt_is_of_the_usual_shape(ground: Ground) -> None:
    features, view = _look(ground, find_panels(ground.table))
    scalars = len(view.scalar_mean)
    assert (view.look("", ground.vectors[0])[-scalars:] == 0).all()
    assert np.abs(view.look("Is 2 > 1?", ground.vectors[0])[-scalars:]).max() > 0.5
    assert features[:, -scalars:].mean(axis=0) == pytest.approx(np.zeros(scalars), abs=0.03)


def test_difficulty_is_learned_on_other_prompts(ground: Ground) -> None:
    """A head that has seen a prompt knows its noise: what is regressed on must not."""
    noise = np.random.default_rng(0).permutation(ground.table.scores)
    blind = replace(ground, table=replace(ground.table, scores=noise))
    panels = find_panels(blind.table)
    common = panels[0].factors[:, 0]
    features, view = _look(blind, panels)
    prompts = zip(blind.table.prompts, blind.vectors, strict=True)
    seen = np.array([view.look(*prompt) for prompt in prompts])
    assert np.corrcoef(seen[panels[0].rows, 1], common)[0, 1] > 0.1
    assert abs(np.corrcoef(features[panels[0].rows, 1], common)[0, 1]) < 0.1


def test_win_rates_teach_differences_and_no_level(ground: Ground) -> None:
    table, usual = ground.table, np.array([0.7, 0.5, 0.3])
    scores = table.scores.copy()
    scores[0], scores[1] = [1.0, np.nan, 0.0], [np.nan, 1.0, np.nan]
    relative = np.arange(len(table)) < 2
    found = _departures(replace(table, scores=scores, relative=relative), usual)
    assert found[0] == pytest.approx([0.3, np.nan, -0.3], nan_ok=True)
    assert np.isnan(found[1]).all(), "one win rate alone compares with nothing"
    assert found[2:] == pytest.approx(scores[2:] - usual)


def test_a_model_of_comparisons_only_is_ranked(routed: Routed) -> None:
    rows = synthetic_rows(600, seed=1, models=("small",))
    for row in synthetic_rows(600, seed=5, source="arena"):
        lead = row.outcomes["large"].score - row.outcomes["small"].score
        share = 0.5 + 0.5 * lead
        rates = {"large": Outcome(share), "small": Outcome(1.0 - share)}
        rows.append(OutcomeRow(row.id, "arena", row.task, row.prompt, rates, "preferences"))
    fresh = build_table(synthetic_rows(300, seed=2))
    found = qualities(routed(prepared(build_table(rows)), KIND), fresh, PAIR)
    known = truth(fresh, PAIR)
    assert np.corrcoef(found @ GAIN, known @ GAIN)[0, 1] > 0.5
    assert found.mean(axis=0) == pytest.approx(known.mean(axis=0), abs=0.12)


def test_words_alone_tell_nothing(artifact: Artifact) -> None:
    """Difficulty comes from the vector, so there is one speed."""
    assert not artifact.reads_text
    assert not artifact.estimator([Candidate("large")]).reads_text
    prompt = " ".join(TOPICS["law"][1].split()[:6])
    assert artifact.estimator([Candidate("large")]).estimate(Query(prompt, None)).novelty == 1.0
