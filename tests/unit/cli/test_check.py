"""`pointsman check`: which file it takes, and what it says of one that is right and of one that is
not. What it finds is tested where it is found."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from app.cli import cli

CONFIG = """
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  small: {upstream: u, prices: {input: 1, output: 1}, quality: 0.5}
  large: {upstream: u, prices: {input: 2, output: 2}, quality: 0.9}
routes: {auto: {candidates: [small, large], router: null}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "my.yaml"
    written.write_text(CONFIG)
    return written


def check(*arguments: str | Path, variable: str | None = None) -> Result:
    environment = {"POINTSMAN_CONFIG": variable}
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], env=environment)


def test_the_file_is_named_in_either_way(file: Path) -> None:
    by_place, by_name = check(file), check("--config", file)
    by_variable = check(variable=str(file))
    assert by_place.exit_code == by_name.exit_code == by_variable.exit_code == 0
    assert by_place.output == by_name.output == by_variable.output
    assert by_place.output == f"{file}: valid; 1 upstream, 2 models, 1 route\n"


def test_a_file_named_by_its_place_goes_before_the_variable(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("not: right")
    assert check(file, variable=str(other)).exit_code == 0


def test_one_file_is_named_and_not_two_or_none(file: Path) -> None:
    for told in (check(file, "--config", file), check()):
        assert told.exit_code == 2
        assert "name one file" in told.output


def test_what_is_wrong_is_told_and_counted(file: Path) -> None:
    file.write_text(CONFIG.replace("[small, large]", "[smal, larg]"))
    told = check(file)
    assert told.exit_code == 1
    assert "did you mean `small`?" in told.output
    assert told.output.endswith("2 problems found.\n")
    for_machines = orjson.loads(check(file, "--json").stdout)
    assert for_machines["valid"] is False
    assert [one["line"] for one in for_machines["problems"]] == [6, 6]
