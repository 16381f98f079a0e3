"""`pointsman keys`: what a person sees; what it does to a gateway is tested beside one."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.keys import command

CONFIG = """
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models: {small: {upstream: u}}
routes: {auto: {candidates: [small], router: null}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(CONFIG)
    return file


def keys(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [arguments[0], "--config", str(config), *arguments[1:]])


def test_a_list_tells_terms_a_line_each(config: Path) -> None:
    assert "keys create" in keys(config, "list").stderr
    terms = "--route auto --tag x --limit usd_per_day=5 --limit requests_per_minute=60 --name blue"
    made = keys(config, "create", *terms.split(), "--expires", "2999-01-31")
    assert made.exit_code == 0, made.output
    key_id = made.stdout.split("-")[1]
    listed = keys(config, "list").stdout
    (line,) = (line for line in listed.splitlines() if key_id in line)
    assert line.split() == [
        key_id, "active", "2999-01-31", "blue",
        "auto;", "usd_per_day=5,", "requests_per_minute=60;", "tags", "x",
    ]  # fmt: skip
    assert made.stdout.strip() not in listed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--limit usd_per_dya=1", "limits.usd_per_dya: unknown key (did you mean `usd_per_day`?)"),
        ("--limit usd_per_day=-1", "limits.usd_per_day: Input should be greater than 0"),
        ("--expires 5", "such as 2027-01-31 or 2027-01-31T12:00:00Z, or from now on, such as 30d"),
        ("--route atuo", "no route named `atuo` (did you mean `auto`?)"),
    ],
)
def test_mistakes_say_what_is_meant(config: Path, arguments: str, told: str) -> None:
    made = keys(config, "create", *arguments.split())
    assert made.exit_code == 2
    assert told in made.stderr


def test_a_tag_that_nearly_has_limits_is_pointed_out(config: Path) -> None:
    config.write_text(CONFIG + "tags: {batch: {limits: {usd_per_day: 5}}}\n")
    made = keys(config, "create", "--tag", "btach")
    assert made.exit_code == 0
    assert "no entry of `tags` is named `btach` (did you mean `batch`?)" in made.stderr
    assert "note" not in keys(config, "create", "--tag", "batch", "--tag", "eu").stderr
