"""Preferences become win rates: the gain is RouteLLM's target, and no score is mixed with one."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DataError
from app.lab.outcomes import OutcomeRow, build_table, read_outcomes, split
from app.lab.preferences import SHARES, Comparison, win_rates

ROW = {"id": "1", "source": "a", "task": "t", "prompt": "p"}


def read(tmp_path: Path, *rows: dict[str, object]) -> list[OutcomeRow]:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({**ROW, **row}) for row in rows))
    return read_outcomes([path])


def scores(row: OutcomeRow) -> dict[str, float]:
    return {name: outcome.score for name, outcome in row.outcomes.items()}


@pytest.mark.parametrize(
    ("winner", "gain"),
    [("model_a", 1), ("model_b", -1), ("tie", 0), ("tie (bothbad)", 0), ("both_bad", 0)],
)
def test_a_pair_as_public_arena_data_has_it(tmp_path: Path, winner: str, gain: float) -> None:
    (row,) = read(tmp_path, {"model_a": "org/strong", "model_b": "weak", "winner": winner})
    assert row.kind == "preferences"
    assert row.outcomes["strong"].score - row.outcomes["weak"].score == gain
    assert sum(scores(row).values()) == 1
    assert np.isnan(row.outcomes["weak"].output_tokens)


def test_several_comparisons_are_averaged(tmp_path: Path) -> None:
    preferences = [
        {"a": "x", "b": "y", "winner": "a"},
        {"a": "y", "b": "x", "winner": "tie"},
        {"a": "z", "b": "x", "winner": "b"},
    ]
    (row,) = read(
        tmp_path, {"preferences": preferences, "model_a": "z", "model_b": "y", "winner": "model_b"}
    )
    assert scores(row) == {"x": pytest.approx(2.5 / 3), "y": pytest.approx(0.5), "z": 0.0}


def test_scores_and_preferences_stay_apart(tmp_path: Path) -> None:
    preferences = [{"a": "x", "b": "z", "winner": "a"}]
    rows = read(
        tmp_path,
        {"outcomes": {"x": {"score": 0.2}}, "preferences": preferences},
        {"id": "2", "outcomes": {"x": {"score": 0.4}}, "preferences": []},
        {"id": "3", "outcomes": {}, "preferences": [{"a": "z", "b": "x", "winner": "tie"}]},
    )
    assert [(row.id, row.kind) for row in rows] == [
        ("1", "scores"),
        ("1#preferences", "preferences"),
        ("2", "scores"),
        ("3", "preferences"),
    ]
    table = build_table(rows)
    assert dict(zip(table.ids, table.relative.tolist(), strict=True)) == {
        "1": False,
        "1#preferences": True,
    }
    by_kind = {bool(kind): cells for kind, cells in zip(table.relative, table.scores, strict=True)}
    np.testing.assert_allclose(by_kind[False], [0.3, np.nan], rtol=1e-6)
    np.testing.assert_allclose(by_kind[True], [0.75, 0.25])
    assert build_table(rows[::-1]).ids == table.ids
    assert table.take([1]).relative.tolist() == [table.relative[1]]
    assert sorted(len(part) for part in split(table, 0.5)) == [0, 2], "one question, one side"
    assert len(build_table(rows, merge=False)) == 4


def test_comparisons_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "arena.csv"
    path.write_text(
        "id,prompt,model,score,model_a,model_b,winner\n"
        "1,p,,,x,y,model_a\n"
        "1,p,,,x,y,tie\n"
        "2,q,x,1,,,\n"
        "2,q,y,0,y,x,model_a\n",
        encoding="utf-8",
    )
    first, second, third = read_outcomes([path])
    assert (first.id, first.kind, scores(first)) == ("1", "preferences", {"x": 0.75, "y": 0.25})
    assert (second.id, second.kind, scores(second)) == ("2", "scores", {"x": 1.0, "y": 0.0})
    assert (third.id, third.kind) == ("2#preferences", "preferences")
    assert scores(third) == {"y": 1.0, "x": 0.0}


def test_a_wide_table_with_comparisons(tmp_path: Path) -> None:
    path = tmp_path / "arena.csv"
    path.write_text("prompt,score:x,model_a,model_b,winner\np,1,,,\nq,,x,y,tie\n", encoding="utf-8")
    assert [row.kind for row in read_outcomes([path])] == ["scores", "preferences"]


PAIR = {"a": "x", "b": "y", "winner": "a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"preferences": [PAIR, {**PAIR, "winner": "x"}]},
            r"preferences\[1\]\.winner: .*a, b, tie",
        ),
        ({"preferences": [{**PAIR, "winner": None}]}, r"preferences\[0\]\.winner"),
        ({"preferences": [{**PAIR, "winner": ["a"]}]}, r"preferences\[0\]\.winner"),
        ({"preferences": [{**PAIR, "b": "org/x"}]}, r"preferences\[0\]\.b: 'org/x' is the model"),
        ({"preferences": [{**PAIR, "a": ""}]}, r"preferences\[0\]\.a: expected a non-empty"),
        ({"preferences": [{"a": "x", "winner": "a"}]}, r"preferences\[0\]\.b"),
        ({"preferences": ["x > y"]}, r"preferences\[0\]: expected an object with a, b and winner"),
        ({"preferences": PAIR}, r"preferences: expected a list"),
        ({"preferences": []}, r"outcomes: expected an object with at least one model"),
        ({"preferences": [PAIR], "outcomes": 3}, r"outcomes: expected an object"),
        ({"model_a": "x", "model_b": "y"}, r"winner: expected one of"),
        ({"model_a": "x", "winner": "tie"}, r"model_b: expected a non-empty"),
        ({"model_a": "x", "model_b": "x", "winner": "tie"}, r"model_b: 'x' is the model"),
    ],
)
def test_a_mistake_names_file_row_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=rf"^x\.jsonl: row 1: field {message}"):
        read(tmp_path, change)


MODELS = st.sampled_from("abcd")


@given(
    st.lists(
        st.builds(Comparison, MODELS, MODELS, st.sampled_from(sorted(set(SHARES.values())))).filter(
            lambda comparison: comparison.first != comparison.second
        ),
        min_size=1,
    )
)
def test_each_comparison_shares_out_one_win(comparisons: list[Comparison]) -> None:
    rates = win_rates(comparisons)
    played = {name: sum(name in (c.first, c.second) for c in comparisons) for name in rates}
    won = sum(rates[name].score * played[name] for name in rates)
    assert won == pytest.approx(len(comparisons))
    assert all(0.0 <= outcome.score <= 1.0 for outcome in rates.values())
