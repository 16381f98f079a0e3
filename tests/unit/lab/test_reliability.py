"""ECE, Brier and AUROC against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.lab.reliability import Bin, auroc, brier, ece, reliability

PREDICTED = np.array([0.1, 0.1, 0.9, 0.9])
SCORES = np.array([0.0, 1.0, 1.0, 1.0])


def test_by_hand() -> None:
    assert reliability(PREDICTED, SCORES) == [
        Bin(2, pytest.approx(0.1), 0.5),
        Bin(2, pytest.approx(0.9), 1.0),
    ]
    assert ece(PREDICTED, SCORES) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert brier(PREDICTED, SCORES) == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert auroc(PREDICTED, SCORES) == pytest.approx((0.5 + 1 + 1) / 3)


def test_the_bins_are_of_equal_width() -> None:
    assert [part.count for part in reliability(np.array([0.0, 0.06, 0.07, 1.0]), np.ones(4))] == [
        2,
        1,
        1,
    ]


def test_one_kind_of_answer_has_no_auroc() -> None:
    assert np.isnan(auroc(PREDICTED, np.ones(4)))


def test_part_of_a_right_answer_counts_as_part() -> None:
    whole = auroc(np.array([0.2, 0.8]), np.array([0.25, 0.75]))
    many = auroc(np.repeat([0.2, 0.8], 4), np.array([1.0, 0, 0, 0, 1, 1, 1, 0]))
    assert whole == pytest.approx(many)


@given(hnp.arrays(np.float64, 40, elements=st.floats(0, 1)), st.randoms())
def test_the_order_of_rows_does_not_count(predicted: np.ndarray, random: object) -> None:
    scores = (np.arange(40) % 3 == 0).astype(float)
    order = np.random.default_rng(random.randrange(1000)).permutation(40)  # type: ignore[attr-defined]
    for figure in (ece, brier, auroc):
        again = figure(predicted[order], scores[order])
        assert figure(predicted, scores) == pytest.approx(again)
    assert 0 <= ece(predicted, scores) <= 1
    assert auroc(predicted, scores) + auroc(-predicted, scores) == pytest.approx(1.0)
