"""Tuning learns, and the same seed learns the same. On a tiny transformer that starts at random;
needs the `train` extra.
"""

from dataclasses import replace

import numpy as np
import pytest

from app.errors import ArtifactError, DataError
from app.lab.outcomes import OutcomeTable, split
from app.lab.synthetic import true_quality
from app.lab.tuning import TunedClassifier, TuneSettings, tune_classifier, tune_contrastive
from app.lab.tuning.classifier import quality_loss
from app.lab.tuning.contrastive import expert_labels, task_labels
from app.lab.tuning.export import loss_at_ends
from app.lab.tuning.held_out import held_out, separation
from app.lab.tuning.run import steps_of
from app.lab.tuning.torch_steps import Texts, encode
from app.routing.encoder.sentence_transformers import load_model

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def settings(tiny_model: str) -> TuneSettings:
    return TuneSettings(
        source=tiny_model,
        strong="large",
        weak="small",
        steps=60,
        learning_rate=1e-3,
        max_rows=300,
        max_tokens=16,
        threads=1,
    )


@pytest.fixture(scope="module")
def halves(table: OutcomeTable) -> tuple[OutcomeTable, OutcomeTable]:
    return split(table, 0.3)


@pytest.fixture(scope="module")
def classifier(
    halves: tuple[OutcomeTable, OutcomeTable], settings: TuneSettings
) -> TunedClassifier:
    return tune_classifier(halves[0], replace(settings, steps=150))


@pytest.mark.parametrize("objective", ["task", "expert"])
def test_prompts_of_one_label_move_together_and_others_apart(
    halves: tuple[OutcomeTable, OutcomeTable], settings: TuneSettings, objective: str
) -> None:
    train, test = halves
    asked = replace(settings, objective=objective)
    told: list[int] = []
    tuned = tune_contrastive(train, asked, told.append)
    assert sum(told) == len(tuned.losses) == 60 == steps_of(train, asked)
    assert tuned.rows == 300
    first, last = loss_at_ends(tuned.losses)
    assert last < 0.8 * first
    labels = (
        task_labels(test)
        if objective == "task"
        else expert_labels(test, test.columns["large"], test.columns["small"])
    )
    rows = np.flatnonzero(labels >= 0)
    prompts = [test.prompts[row] for row in rows]
    before = separation(encode(load_model(asked.source), prompts, asked), labels[rows])
    after = separation(encode(tuned.model, prompts, asked), labels[rows])
    assert after > before + (0.5 if objective == "task" else 0.05)
    figure = held_out(tuned, train, test, asked)
    assert figure is not None
    assert (figure.before, figure.after) == pytest.approx((before, after), abs=1e-5)


def test_the_classifier_learns_which_model_is_good_at_what(
    classifier: TunedClassifier,
    halves: tuple[OutcomeTable, OutcomeTable],
    settings: TuneSettings,
) -> None:
    train, test = halves
    first, last = loss_at_ends(classifier.losses)
    assert last < 0.9 * first
    vectors = encode(classifier.model, test.prompts, settings)
    quality = classifier.heads.quality.quality(vectors)
    truth = np.array([[true_quality(model, task) for model in test.models] for task in test.tasks])
    blind = np.abs(truth - truth.mean(axis=0)).mean()
    assert np.abs(truth - quality).mean() < 0.5 * blind
    assert classifier.heads.models == ("large", "medium", "small")
    figure = held_out(classifier, train, test, settings)
    assert figure is not None
    assert figure.after < figure.before - 0.02


def test_the_pair_head_knows_where_the_strong_model_wins(
    classifier: TunedClassifier,
    halves: tuple[OutcomeTable, OutcomeTable],
    settings: TuneSettings,
) -> None:
    test = halves[1]
    assert classifier.heads.pair is not None
    assert (classifier.heads.strong, classifier.heads.weak) == ("large", "small")
    wins = classifier.heads.pair.strong_wins(encode(classifier.model, test.prompts, settings))
    tasks = np.array(test.tasks)
    # Large beats small on .47 of law prompts, on .04 of letters.
    assert wins[tasks == "law"].mean() > wins[tasks == "letters"].mean() + 0.15


def test_missing_cells_are_masked(table: OutcomeTable, settings: TuneSettings) -> None:
    """A model scored on a tenth of the rows has a head of its own all the same."""
    scores = table.scores.copy()
    column = table.columns["medium"]
    scores[np.arange(len(table)) % 10 != 0, column] = np.nan
    # Whatever the model gets there is 1, so that the mask alone keeps its head from the others'.
    scores[np.arange(len(table)) % 10 == 0, column] = 1.0
    sparse = replace(table, scores=scores)
    tuned = tune_classifier(sparse, replace(settings, strong=None, weak=None, max_rows=None))
    assert tuned.heads.pair is None
    quality = tuned.heads.quality.quality(encode(tuned.model, table.prompts[:200], settings))
    assert quality[:, column].mean() > 0.9
    assert quality[:, table.columns["small"]].mean() < 0.7


def test_the_loss_counts_known_cells_and_differences() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    scores = torch.tensor([[1.0, 0.0], [torch.nan, 1.0]])
    # First row: both are off by .5, in opposite ways. Second: one known cell, so no difference.
    first = np.log(2) + 0.25
    second = np.log(1 + np.exp(-2.0))
    assert float(quality_loss(logits, scores)) == pytest.approx((first + second) / 2)


def weights_of(tuned: TunedClassifier) -> list[np.ndarray]:
    state = tuned.model.state_dict()
    return [*(state[name].numpy() for name in sorted(state)), tuned.heads.quality.weights]


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_as_it_was(
    table: OutcomeTable, settings: TuneSettings
) -> None:
    few = replace(settings, steps=5)
    torch.manual_seed(7)
    expected = torch.rand(1).item()
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    one = weights_of(tune_classifier(table, few))
    assert torch.rand(1).item() == expected
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    same = weights_of(tune_classifier(table, few))
    other = weights_of(tune_classifier(table, replace(few, seed=1)))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_only_the_rows_given_are_seen(
    halves: tuple[OutcomeTable, OutcomeTable], settings: TuneSettings
) -> None:
    """Spoilt rows that are not passed in change nothing."""
    few = replace(settings, steps=5, max_rows=None)
    table = halves[0]
    kept = np.arange(100)
    spoilt = table.scores.copy()
    spoilt[100:] = 1 - spoilt[100:]
    one = weights_of(tune_classifier(table.take(kept), few))
    same = weights_of(tune_classifier(replace(table, scores=spoilt).take(kept), few))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))


def test_long_texts_keep_head_and_tail(tiny_model: str) -> None:
    model = load_model(tiny_model)
    settings = TuneSettings(max_tokens=16)
    short, long, half = Texts(
        model, ["add law", "add " + "law " * 50 + "norm", "\ud800"], settings
    ).ids
    assert len(long) == 16
    assert (long[:2], long[-1]) == (short[:2], short[-1])
    assert long[-2] == Texts(model, ["norm"], settings).ids[0][1]
    assert len(half) >= 2


def test_a_loss_that_runs_away_is_reported(table: OutcomeTable, settings: TuneSettings) -> None:
    wild = replace(settings, learning_rate=1e30, steps=20)
    with pytest.raises(DataError, match=r"the loss is nan; try a smaller learning rate"):
        tune_classifier(table, wild)


def test_a_source_that_is_no_model_is_refused(table: OutcomeTable, settings: TuneSettings) -> None:
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        tune_classifier(table, replace(settings, source="./nothing/here"))
