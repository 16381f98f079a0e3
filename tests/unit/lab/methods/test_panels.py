"""Panels find what sets models apart, whatever else is in the table."""

from dataclasses import replace

import numpy as np
import pytest

from app.lab.methods import panels
from app.lab.methods.panels import find_panels, make_panel
from app.lab.outcomes import OutcomeTable, build_table
from app.lab.synthetic import synthetic_rows


def two_sources() -> OutcomeTable:
    rows = synthetic_rows(200, seed=1, source="all")
    return build_table(rows + synthetic_rows(80, seed=2, models=("small", "large"), source="pair"))


def columns(table: OutcomeTable, *models: str) -> list[int]:
    return sorted(table.columns[model] for model in models)


def planted(strength: float) -> tuple[OutcomeTable, np.ndarray, np.ndarray]:
    """Scores that are a mean, an easiness of the row and a strength that parts models 0 and 2."""
    rng = np.random.default_rng(0)
    table = build_table(synthetic_rows(100, seed=1))
    easy, apart = 0.1 * rng.standard_normal((2, len(table)))
    scores = 0.5 + easy[:, None] + strength * apart[:, None] * np.array([1.0, 0.0, -1.0])
    return replace(table, scores=scores.astype(np.float32)), easy, apart


def test_easiness_and_difference_are_told_apart() -> None:
    table, easy, apart = planted(1.0)
    panel = make_panel(table, "p", np.arange(len(table)), [0, 1, 2], 6)
    assert panel.factors[:, 0] == pytest.approx(easy - easy.mean(), abs=1e-6)
    assert panel.factors[:, 1] == pytest.approx(np.sqrt(2) * (apart - apart.mean()), abs=1e-5)
    assert panel.factors[:, 2] == pytest.approx(0.0, abs=1e-5)
    rebuilt = panel.means + panel.factors[:, :1] + panel.factors[:, 1:] @ panel.directions.T
    assert rebuilt == pytest.approx(table.scores, abs=1e-5)


def test_win_rates_say_nothing_of_easiness() -> None:
    table, _, _ = planted(1.0)
    relative = np.arange(len(table)) < 30
    whole = make_panel(table, "p", np.arange(len(table)), [0, 1, 2], 6)
    table = replace(table, relative=relative)
    panel = make_panel(table, "p", np.arange(len(table)), [0, 1, 2], 6)
    assert not panel.factors[relative, 0].any()
    assert panel.factors[~relative, 0].any()
    assert np.array_equal(panel.factors[:, 1:], whole.factors[:, 1:])


def test_a_source_whose_models_a_larger_panel_has_needs_none() -> None:
    table = two_sources()
    (panel,) = find_panels(table)
    assert panel.name == "all"
    assert panel.columns.tolist() == columns(table, "small", "medium", "large")
    assert len(panel.rows) == 280, "rows of any source that most of its models answered"


def test_what_is_covered_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair's panel is the second largest, but the first has its models."""
    others = synthetic_rows(60, seed=3, models=("small", "medium"), source="b")
    renamed = [
        replace(row, outcomes={f"{name}-2": one for name, one in row.outcomes.items()})
        for row in others
    ]
    pair = synthetic_rows(80, seed=2, models=("small", "large"), source="pair")
    table = build_table(synthetic_rows(200, seed=1, source="all") + pair + renamed)
    monkeypatch.setattr(panels, "LARGEST_PANELS", 2)
    assert [panel.name for panel in find_panels(table)] == ["all", "b"]


def test_a_model_that_no_row_of_the_panel_has_is_left_out() -> None:
    """It answered half of its source: the half that the two others did not."""
    table = build_table(synthetic_rows(200, seed=1))
    scores = table.scores.copy()
    alone = np.arange(200) < 100
    scores[alone, 1:], scores[~alone, 0] = np.nan, np.nan
    (panel,) = find_panels(replace(table, scores=scores))
    assert panel.columns.tolist() == [1, 2]
    assert np.isfinite(panel.means).all()
    assert panel.factors.shape == (100, 2)


def test_the_same_rows_give_the_same_bytes() -> None:
    first, second = (find_panels(two_sources())[0] for _ in range(2))
    assert first.directions.tobytes() == second.directions.tobytes()
    largest = np.abs(first.directions).argmax(axis=0)
    assert (first.directions[largest, np.arange(first.directions.shape[1])] > 0).all()
