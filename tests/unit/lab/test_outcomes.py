"""Outcome files: every mistake names file, row and field; rows merge and split by question."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DataError
from app.lab.outcomes import (
    Outcome,
    OutcomeRow,
    build_table,
    normalise,
    question,
    read_outcomes,
    split,
    split_position,
)

GOOD = {
    "id": "a/1",
    "source": "a",
    "task": "t",
    "prompt": "Two plus two?",
    "outcomes": {"org/small": {"score": 1, "output_tokens": 12, "cost_usd": None}},
}


def write(path: Path, *rows: object) -> Path:
    lines = b"\n".join(r if isinstance(r, bytes) else orjson.dumps(r) for r in rows)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def row(prompt: str, number: int = 0, source: str = "a", **scores: float) -> OutcomeRow:
    outcomes = {name: Outcome(score) for name, score in scores.items()}
    return OutcomeRow(f"{source}/{number}", source, "t", prompt, outcomes)


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_reads_plain_and_compressed(tmp_path: Path, name: str) -> None:
    (read,) = read_outcomes([write(tmp_path / name, GOOD)])
    assert read.id == "a/1"
    assert read.outcomes["small"].score == 1.0
    assert read.outcomes["small"].output_tokens == 12.0
    assert np.isnan(read.outcomes["small"].cost_usd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": {"m": {"score": 1.5}}}, r"field outcomes\.m\.score: .*from 0 to 1,"),
        ({"outcomes": {"m": {"score": -0.1}}}, r"field outcomes\.m\.score"),
        ({"outcomes": {"m": {"score": None}}}, r"field outcomes\.m\.score: .*finite number"),
        ({"outcomes": {"m": {"score": "1"}}}, r"field outcomes\.m\.score"),
        ({"outcomes": {"m": {"score": True}}}, r"field outcomes\.m\.score"),
        ({"outcomes": {"m": {}}}, r"field outcomes\.m\.score"),
        ({"outcomes": {"m": 1}}, r"field outcomes\.m: expected an object"),
        ({"outcomes": {}}, "field outcomes: .*at least one model"),
        ({"outcomes": None}, "field outcomes"),
        (
            {"outcomes": {"m": {"score": 1, "output_tokens": -3}}},
            r"m\.output_tokens: .*from 0 to 1,000",
        ),
        ({"outcomes": {"m": {"score": 1, "cost_usd": "free"}}}, r"m\.cost_usd"),
        ({"prompt": ""}, "field prompt"),
        ({"prompt": None}, "field prompt"),
        ({"task": 3}, "field task"),
        ({"id": "a\nb"}, "field id: expected a single line"),
        ({"id": 1.5}, "field id"),
        ({"outcomes": {" ": {"score": 1}}}, "field outcomes. : expected a non-empty"),
        ({"outcomes": {"m": {"score": 1, "cost_usd": 1e300}}}, r"m\.cost_usd: .*from 0 to 1,000"),
        ({"outcomes": {"m": {"score": 1, "input_tokens": -1}}}, r"m\.input_tokens"),
        ({"outcomes": [1]}, "field outcomes"),
        ({"id": "a/1"}, "field id: 'a/1' was used before, at bad.jsonl: row 1"),
    ],
)
def test_a_mistake_names_file_row_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "bad.jsonl", GOOD, {**GOOD, "id": "a/2", **change})
    with pytest.raises(DataError, match=rf"^bad\.jsonl: row 2: .*{message}"):
        read_outcomes([path])


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"{", "row 1: not valid JSON"), (b"[1]", "row 1: expected an object"), (b"\n", "no rows")],
)
def test_lines_that_are_no_rows(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_outcomes([write(tmp_path / "x.jsonl", line)])


def test_nan_is_not_json_and_is_refused(tmp_path: Path) -> None:
    line = orjson.dumps(GOOD).replace(b'"score":1', b'"score":NaN')
    with pytest.raises(
        DataError, match=r"row 1: not valid JSON: .* no NaN or Infinity: write null"
    ):
        read_outcomes([write(tmp_path / "x.jsonl", line)])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no outcome files"):
        read_outcomes([])
    with pytest.raises(DataError, match=r"x\.xml: outcome files end in"):
        read_outcomes([write(tmp_path / "x.xml", GOOD)])
    with pytest.raises(DataError, match="cannot be read"):
        read_outcomes([tmp_path / "missing.jsonl"])
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(orjson.dumps(GOOD) * 50)[:-20])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: cannot be read"):
        read_outcomes([cut])
    for number, broken in enumerate([b"not gzip", gzip.compress(b"x" * 999)[:10] + b"\xff" * 40]):
        path = tmp_path / f"{number}.jsonl.gz"
        path.write_bytes(broken)
        with pytest.raises(DataError, match=rf"^{number}\.jsonl\.gz: cannot be read"):
            read_outcomes([path])


def test_an_id_used_in_two_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    first, second = (write(tmp_path / name / "x.jsonl", GOOD) for name in ("one", "two"))
    other = write(tmp_path / "y.jsonl", GOOD)
    with pytest.raises(DataError, match=r"^y\.jsonl: row 1: field id: .* at x\.jsonl: row 1"):
        read_outcomes([first, other])
    with pytest.raises(DataError, match=r"two/x\.jsonl: row 1: .* at .*one/x\.jsonl: row 1"):
        read_outcomes([first, second])


def test_id_source_and_task_have_defaults_and_a_mark_is_skipped(tmp_path: Path) -> None:
    bare = {key: GOOD[key] for key in ("prompt", "outcomes")}
    numbered = {**bare, "id": 17, "source": None}
    path = write(tmp_path / "faq.v2.jsonl", b"\xef\xbb\xbf" + orjson.dumps(bare), numbered)
    first, second = read_outcomes([path])
    assert (first.id, first.source, first.task) == ("faq.v2/1", "faq.v2", "faq.v2")
    assert (second.id, second.source) == ("17", "faq.v2")


def test_equal_prompts_merge_and_scores_average() -> None:
    table = build_table([row("Two  plus\ntwo?", 1, m=1.0), row("two plus two?", 2, m=0.0, n=1.0)])
    assert len(table) == 1
    assert table.scores.tolist() == [[0.5, 1.0]]
    assert len(build_table([row("a", 1, m=1.0), row("a", 2, m=0.0)], merge=False)) == 2


def test_spellings_of_a_model_merge(tmp_path: Path) -> None:
    outcomes = {"M-3_1@x": {"score": 1}, "org/M-3.1": {"score": 0}}
    (read,) = read_outcomes([write(tmp_path / "x.jsonl", {**GOOD, "outcomes": outcomes})])
    assert {name: o.score for name, o in read.outcomes.items()} == {"M-3.1": 0.5}


def test_one_token_answers_say_nothing_of_length() -> None:
    outcomes = {"m": Outcome(1.0, output_tokens=1), "n": Outcome(1.0, output_tokens=40)}
    table = build_table([OutcomeRow("a", "a", "t", "p", outcomes)])
    assert np.isnan(table.output_tokens[0, 0])
    assert table.output_tokens[0, 1] == 40


def test_choosing_models() -> None:
    rows = [row("a", 1, m=1.0, n=0.0), row("b", 2, n=1.0)]
    table = build_table(rows, models=["org/m"])
    assert table.models == ("m",)
    assert len(table) == 1
    with pytest.raises(DataError, match=r"no outcomes of: x \(valid: m, n\)"):
        build_table(rows, models=["x"])
    many = [row("a", 1, **{f"model-{n}": 1.0 for n in range(20)})]
    with pytest.raises(DataError, match=r"model-1O \(did you mean `model-1.?`\?\); zebra .* 20 "):
        build_table(many, models=["zebra", "model-1O"])


def test_order_does_not_depend_on_the_files() -> None:
    rows = [row(f"prompt {n}", n, m=n % 2) for n in range(20)]
    assert build_table(rows).ids == build_table(rows[::-1]).ids


def test_a_question_is_on_one_side_of_the_split_whatever_its_options() -> None:
    four = "What is a cat?\nA. a pet\nB. a tree\nAnswer:"
    ten = "what is  a CAT?\n(A) a pet\n(B) a car\n(C) a star"
    assert question(four) == question(ten)
    assert split_position(four) == split_position(ten)
    assert question("A. b\nB. c") == normalise("A. b\nB. c")
    train, test = split(build_table([row(f"q {n}", n, m=1.0) for n in range(400)]), 0.25)
    assert 70 <= len(test) <= 130
    assert len(train) + len(test) == 400
    assert not {question(p) for p in train.prompts} & {question(p) for p in test.prompts}


@given(st.text())
def test_normalising_is_stable(text: str) -> None:
    once = normalise(text)
    assert normalise(" " + once + "\n") == normalise(once)
    assert 0.0 <= split_position(text) < 1.0
