"""What tuning learns from, before torch is needed: labels, samples, batches, and clear refusals."""

from dataclasses import replace

import numpy as np
import pytest

from app.errors import DataError
from app.lab.outcomes import Outcome, OutcomeRow, OutcomeTable, build_table
from app.lab.tuning.classifier import UNKNOWN, pair_labels, tune_classifier
from app.lab.tuning.contrastive import (
    STRONG_POOL,
    UNLABELLED,
    WEAK_POOL,
    balanced_batches,
    expert_labels,
    task_labels,
    tune_contrastive,
)
from app.lab.tuning.held_out import separation
from app.lab.tuning.run import steps_of
from app.lab.tuning.settings import TuneSettings, sample
from app.lab.tuning.torch_steps import batches_of_like_length
from app.routing.estimators.classifier import LOSS, TIE, WIN


def table_of(*scores: tuple[float | None, float | None], tasks: str = "") -> OutcomeTable:
    """A row a pair of scores (strong, weak), None where there is none; a letter of `tasks` each."""
    rows = [
        OutcomeRow(
            f"{number}",
            "made up",
            tasks[number] if tasks else "t",
            f"prompt {number}",
            {
                name: Outcome(score)
                for name, score in zip(("strong", "weak"), pair, strict=True)
                if score is not None
            }
            | {"other": Outcome(1.0)},
        )
        for number, pair in enumerate(scores)
    ]
    table = build_table(rows)
    return table.take(np.argsort([int(row_id) for row_id in table.ids]))


def columns(table: OutcomeTable) -> tuple[int, int]:
    return table.columns["strong"], table.columns["weak"]


def test_pools_are_those_of_orchestrallm() -> None:
    table = table_of((1, 1), (1, 0), (0, 1), (0, 0), (None, 1), (1, None), (0.9, 0.2), (0.7, 0.6))
    assert expert_labels(table, *columns(table)).tolist() == [
        WEAK_POOL,  # both right: the cheaper one will do
        STRONG_POOL,
        WEAK_POOL,
        UNLABELLED,  # both wrong: discarded
        UNLABELLED,
        UNLABELLED,
        STRONG_POOL,
        WEAK_POOL,
    ]


def test_one_pool_only_is_refused() -> None:
    table = table_of((1, 1), (0, 1), (1, 1), (1, 0))
    with pytest.raises(DataError, match="1 prompts in the pool of strong"):
        expert_labels(table, *columns(table))


def test_tasks_are_labels_unless_a_prompt_is_alone_in_its_own() -> None:
    labels = task_labels(table_of(*[(1, 1)] * 5, tasks="abacb"))
    assert labels[0] == labels[2] != labels[1] == labels[4]
    assert labels[3] == UNLABELLED
    with pytest.raises(DataError, match="1 task with two prompts or more"):
        task_labels(table_of(*[(1, 1)] * 3, tasks="aab"))


def test_the_strong_model_wins_ties_or_loses() -> None:
    table = table_of((1, 0), (1, 1), (0, 0), (0.2, 0.3), (None, 1))
    assert pair_labels(table, *columns(table)).tolist() == [WIN, TIE, TIE, LOSS, UNKNOWN]
    with pytest.raises(DataError, match="always ends the same way"):
        pair_labels(table.take([1, 2, 4]), *columns(table))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs a pair"),
        ({"strong": "strong"}, "only one is named"),
        ({"strong": "strong", "weak": "nobody"}, "no outcomes of: nobody; the table has other"),
        ({"strong": "weak", "weak": "weak"}, "the same model"),
        ({"strong": "strong", "weak": "weak"}, "4 rows to tune on with the objective 'expert'"),
    ],
)
def test_expert_tuning_says_what_it_lacks(given: dict[str, str], message: str) -> None:
    table = table_of((1, 1), (0, 1), (1, 0), (1, 0), (0, 0))
    settings = TuneSettings(objective="expert", source="never loaded", **given)
    with pytest.raises(DataError, match=message):
        tune_contrastive(table, settings)
    with pytest.raises(DataError, match=message):
        steps_of(table, settings)


def test_a_classifier_needs_two_classes_and_outcomes_of_every_model() -> None:
    settings = TuneSettings(source="never loaded")
    with pytest.raises(DataError, match="all scores are equal"):
        tune_classifier(table_of(*[(1, 1)] * 20), settings)
    table = table_of(*[(1, None)] * 19, (0, 1))
    with pytest.raises(DataError, match="no outcomes of weak in the rows to tune on"):
        tune_classifier(table.take(range(19)), settings)
    with pytest.raises(DataError, match="3 rows to tune on"):
        tune_classifier(table.take(range(3)), settings)


def test_a_sample_is_the_seeds_and_in_order() -> None:
    rows = np.arange(0, 200, 2)
    settings = TuneSettings(max_rows=40)
    chosen = sample(rows, settings)
    assert len(chosen) == 40
    assert set(chosen) <= set(rows)
    assert np.array_equal(chosen, np.sort(chosen))
    assert np.array_equal(chosen, sample(rows, settings))
    assert not np.array_equal(chosen, sample(rows, replace(settings, seed=1)))
    assert np.array_equal(sample(rows, TuneSettings()), rows)


def test_steps_follow_the_papers_unless_told() -> None:
    assert TuneSettings().steps_for(100) == 2_000
    assert TuneSettings(epochs=3).steps_for(160) == 30
    assert TuneSettings(steps=7, batch=4).steps_for(160) == 7
    assert TuneSettings(objective="task").steps_for(320) == 10


def test_balanced_batches_hold_positives_and_negatives_and_show_all() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20 + [UNLABELLED] * 5)
    seen: set[int] = set()
    for batch in balanced_batches(labels, 12, 12, seed=0):
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) == 3
        assert counts.tolist() == [4, 4, 4]
        assert len(set(batch.tolist())) == 12
        seen |= set(batch.tolist())
    assert UNLABELLED not in labels[list(seen)]
    # Of fifty rows twelve batches of four show 48; of thirty, two may be dealt out no more.
    assert len(seen) >= 48 + 28 + 20
    small = next(balanced_batches(np.array([0, 0, 0, 1, 1]), 16, 1, seed=0))
    assert sorted(small.tolist()) == [0, 1, 2, 3, 4]


def test_batches_of_like_length_show_every_row_once_an_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 83)
    epoch = list(batches_of_like_length(lengths, 8, 11, seed=0))
    assert sorted(np.concatenate(epoch).tolist()) == list(range(83))
    again = list(batches_of_like_length(lengths, 8, 25, seed=0))
    assert len(again) == 25
    assert all(np.array_equal(a, b) for a, b in zip(epoch, again, strict=False))
    spread = np.mean([np.ptp(lengths[batch]) for batch in epoch])
    assert spread < 0.3 * np.ptp(lengths)


def test_separation_is_same_less_other() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    assert separation(vectors, np.array([0, 0, 1, 1])) == pytest.approx(1.0)
    assert separation(vectors, np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
