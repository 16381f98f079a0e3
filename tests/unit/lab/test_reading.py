"""CSV and parquet, long and wide: the same rows from each, mistakes with file, row and field."""

import gzip
import re
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from app.errors import DataError
from app.lab.outcomes import OutcomeRow, read_outcomes

PROJECT = Path(__file__).resolve().parents[3]

LONG = """\
id,source,task,prompt,model,score,cost_usd,output_tokens,note
a/1,a,t,One?,org/x-3_1,1,0.002,120,kept
a/1,a,t,One?,y,0.5,,,
a/2,a,t,"Two,
""really""?",y,0,,7,
"""
WIDE = """\
id,source,task,prompt,score:x-3_1,score:y,cost_usd:x-3_1,output_tokens:x-3_1,output_tokens:y
a/1,a,t,One?,1,0.5,0.002,120,
a/2,a,t,"Two,
""really""?",,0,,,7
"""


def write(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_parquet(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def known(row: OutcomeRow) -> dict[str, list[float | None]]:
    return {
        name: [
            value if value == value else None for value in (o.score, o.cost_usd, o.output_tokens)
        ]
        for name, o in row.outcomes.items()
    }


def assert_two_prompts(rows: list[OutcomeRow]) -> None:
    first, second = rows
    assert (first.id, first.source, first.task, first.prompt) == ("a/1", "a", "t", "One?")
    assert known(first) == {"x-3.1": [1.0, 0.002, 120.0], "y": [0.5, None, None]}
    assert second.prompt == 'Two,\n"really"?'
    assert known(second) == {"y": [0.0, None, 7.0]}
    assert {row.kind for row in rows} == {"scores"}


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "X.CSV"])
@pytest.mark.parametrize("table", [LONG, WIDE])
def test_long_and_wide_tables_say_the_same(tmp_path: Path, name: str, table: str) -> None:
    assert_two_prompts(read_outcomes([write(tmp_path / name, table)]))


@pytest.mark.parametrize("table", [LONG, WIDE])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, table: str) -> None:
    body = table.replace("\n", "\r\n").replace("Two,\r\n", "Two,\n")
    trailing = "\r\n" + "," * table.split("\n")[0].count(",") + "\r\n"
    path = write(tmp_path / "x.csv", b"\xef\xbb\xbf" + (body + trailing).encode())
    assert_two_prompts(read_outcomes([path]))


def test_parquet_long(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "x.parquet",
        id=["a/1", "a/1", "a/2"],
        source=pa.array(["a"] * 3).dictionary_encode(),
        task=["t"] * 3,
        prompt=["One?", "One?", 'Two,\n"really"?'],
        model=["org/x-3_1", "y", "y"],
        score=[Decimal("1.0"), Decimal("0.5"), Decimal("0.0")],
        cost_usd=[0.002, None, None],
        output_tokens=pa.array([120, None, 7], pa.int32()),
        embedding=[[0.1], [0.2], [0.3]],
    )
    assert_two_prompts(read_outcomes([path]))


def test_parquet_wide_with_dots_in_its_columns(tmp_path: Path) -> None:
    columns = {
        "prompt": ["One?", "Two?"],
        "score:gpt-3": pa.array([1, None], pa.int8()),
        "score:gpt-3.5": [0.25, 0.75],
        "output_tokens:gpt-3.5": pa.array([9, None], pa.uint16()),
    }
    rows = read_outcomes([write_parquet(tmp_path / "x.parquet", **columns)])
    assert [row.id for row in rows] == ["x/1", "x/2"]
    assert known(rows[0]) == {"gpt-3": [1.0, None, None], "gpt-3.5": [0.25, None, 9.0]}
    assert known(rows[1]) == {"gpt-3.5": [0.75, None, None]}


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "x.parquet", id=[7, 7], prompt=["p", "p"], model=["a", "b"], score=[0.0, 1.0]
    )
    (row,) = read_outcomes([path])
    assert row.id == "7"
    assert set(row.outcomes) == {"a", "b"}


def test_without_ids_equal_prompts_are_one(tmp_path: Path) -> None:
    table = "task,prompt,model,score\nt,p,a,1\nt,q,a,1\nt,p,b,0\nu,p,b,1\nt,p,a,0\n"
    rows = read_outcomes([write(tmp_path / "faq.csv", table)])
    found = [(row.id, row.source, row.task, known(row).keys()) for row in rows]
    assert found == [
        ("faq/2", "faq", "t", {"a", "b"}),
        ("faq/3", "faq", "t", {"a"}),
        ("faq/5", "faq", "u", {"b"}),
    ]
    assert rows[0].outcomes["a"].score == 0.5, "two samples of one model"


def test_a_prompt_may_be_long(tmp_path: Path) -> None:
    prompt = "word " * 100_000
    (row,) = read_outcomes([write(tmp_path / "x.csv", f"prompt,score:a\n{prompt},1\n")])
    assert row.prompt == prompt


def test_several_files_of_several_formats(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", "prompt,score:a\np,1\n"),
        write_parquet(tmp_path / "b.parquet", prompt=["p"], model=["b"], score=[0.0]),
        write(tmp_path / "c.jsonl", '{"prompt": "p", "outcomes": {"c": {"score": 1}}}'),
    ]
    assert [row.id for row in read_outcomes(files)] == ["a/2", "b/1", "c/1"]


CELLS = "id,prompt,model,score,output_tokens,cost_usd\ngood,p,a,1,2,3\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("i,p,a,nan,,", "field score: expected a finite number, found nan"),
        ("i,p,a,inf,,", "field score: expected a finite number, found inf"),
        ("i,p,a,1.01,,", r"field score: expected a number from 0 to 1, found 1\.01"),
        ("i,p,a,good,,", "field score: expected a finite number, found 'good'"),
        ("i,p,a,,,", "field score: expected a finite number, found None"),
        ("i,p,,1,,", "field model: expected a non-empty string"),
        ("i,p,,,5,", "field score: expected a value, found an empty cell"),
        ("i,,a,1,,", "field prompt: expected a non-empty string"),
        ("i,p,a,1,-4,", r"field output_tokens: expected a number from 0 to 1,000.*found -4\.0"),
        ("i,p,a,1,,1e200", r"field cost_usd: .* found 1e\+200"),
        ("i,p,a,1", "4 cells, but the header has 6"),
        ("i,p,a,1,,,", "7 cells, but the header has 6"),
        ("good,p,a,1,,", "field model: 'a' has a score for this id already, in row 2"),
        ("good,q,b,1,,", "field prompt: is another in row 2, which has the same id"),
        ('"i\nj",p,a,1,,', "field id: expected a single line"),
        ('i,"p,a,1,,', "not valid CSV: unexpected end of data"),
        ('i,"p"q,a,1,,', "not valid CSV"),
        (b"i,\xe9,a,1,,", "not UTF-8 text: .*; save the file as UTF-8"),
    ],
)
def test_a_mistake_in_a_long_table(tmp_path: Path, row: str | bytes, message: str) -> None:
    line = row if isinstance(row, bytes) else row.encode()
    path = write(tmp_path / "bad.csv", CELLS.encode() + line + b"\n")
    with pytest.raises(DataError, match=rf"^bad\.csv: row 3: {message}"):
        read_outcomes([path])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("i,p,2,,", "field score:x: expected a number from 0 to 1"),
        ("i,p,,,", "field score:<model>: expected a value"),
        ("i,p,,,3", "field score:x: expected a finite number, found None"),
        ("i,p,1,,-3", "field cost_usd:x: expected a number from 0"),
        ("good,p,1,,", "field id: 'good' was used before, at bad.csv: row 2"),
    ],
)
def test_a_mistake_in_a_wide_table(tmp_path: Path, row: str, message: str) -> None:
    header = "id,prompt,score:x,score:y,cost_usd:x\ngood,p,1,1,1\n"
    with pytest.raises(DataError, match=rf"^bad\.csv: row 3: {message}"):
        read_outcomes([write(tmp_path / "bad.csv", f"{header}{row}\n")])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "id,question,answer",
            "no layout has the columns id, question, answer; valid: prompt, model",
        ),
        ("prompt,model", "no layout .* prompt, score:<model> and more"),
        ("prompt,model_a,model_b", "no layout .* prompt, model_a, model_b, winner"),
        ("model,score", "no layout has the columns model, score"),
        ("prompt;score:a", "no layout .*; cells are separated by commas"),
        (",".join(f"c{n}" for n in range(40)), "c11, ...; valid"),
        ("prompt,model,score,score:a", "columns score and score:<model>: keep one of the two"),
        ("prompt,score:a,cost_usd:b", "column cost_usd:b has no column score:b beside it"),
        ("prompt,score:a,score:a", "column score:a is there 2 times"),
        ("prompt,prompt,score:a", "column prompt is there 2 times"),
        ("prompt,score:a", "the file has no rows"),
        ("", "the file has no rows"),
    ],
)
def test_columns_that_make_no_layout(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^x\.csv: .*{message}"):
        read_outcomes([write(tmp_path / "x.csv", header)])


def test_broken_files(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "w.parquet", prompt=["p"], **{"score:a": [1.0]}).read_bytes()
    for name, content in {
        "empty.parquet": b"",
        "cut.parquet": whole[:-20],
        "text.parquet": b"prompt,score:a\np,1\n",
        "x.csv.gz": b"prompt,score:a\np,1\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"^{re.escape(name)}: cannot be read: "):
            read_outcomes([tmp_path / name])
    write(tmp_path / "utf16.csv", "prompt,score:a\np,1\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"utf16\.csv: row 1: not UTF-8"):
        read_outcomes([tmp_path / "utf16.csv"])


def test_mistakes_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    good = {"prompt": ["p", "q"], "model": ["a", "a"], "score": [1.0, 0.0]}
    for change, message in [
        ({"score": [1.0, float("nan")]}, "row 2: field score: expected a finite number, found nan"),
        ({"score": [True, False]}, "row 1: field score: expected a finite number, found True"),
        ({"score": ["1", "0"]}, "row 1: field score: .* found '1'"),
        ({"prompt": [1, 2]}, "row 1: field prompt: expected a non-empty string, found 1"),
        ({"prompt": ["p", None]}, "row 2: field prompt"),
        ({"id": [0.5, 1.5]}, "row 1: field id"),
        ({"prompt": [], "model": [], "score": []}, "the file has no rows"),
    ]:
        write_parquet(path, **{**good, **change})
        with pytest.raises(DataError, match=rf"^x\.parquet: {message}"):
            read_outcomes([path])


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "x.parquet", prompt=["p"], **{"score:a": [1.0]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"x\.parquet: .*pip install 'pointsman\[lab\]'"):
        read_outcomes([path])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), suffix=st.sampled_from([".jsonl", ".csv", ".csv.gz"]))
def test_no_bytes_raise_anything_else(tmp_path: Path, content: bytes, suffix: str) -> None:
    header = b"prompt,score:a\n" if suffix.startswith(".csv") else b""
    path = write(tmp_path / f"x{suffix}", header + content)
    try:
        rows = read_outcomes([path])
    except DataError:
        return
    assert rows


def test_the_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "routing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(jsonl|csv)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    files = [write(tmp_path / f"{n}.{kind}", body) for n, (kind, body) in enumerate(blocks)]
    rows = [read_outcomes([file]) for file in files]
    assert [[row.kind for row in found] for found in rows] == [
        ["scores", "preferences"],
        ["scores"],
        ["scores", "scores"],
        ["preferences"],
    ]
    assert known(rows[0][0]) == {"large": [1.0, 0.002, 120.0], "small": [0.5, None, None]}
    assert known(rows[1][0]) == {"large": [1.0, None, 120.0], "small": [0.5, None, None]}
    assert known(rows[2][1]) == {"small": [1.0, None, None]}
    assert known(rows[3][0]) == {"large": [1.0, None, None], "small": [0.0, None, None]}
