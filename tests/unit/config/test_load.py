"""A bad config names file, line, path and the nearest valid name, every mistake at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.load import load, loads
from app.errors import ConfigError

VALID = """\
upstreams:
  openai: {base_url: https://api.openai.com/v1, kind: openai, api_key: "${KEY:-none}"}
models:
  small: {upstream: openai, prices: {input: 0.15, output: 0.6}}
  large: {upstream: openai}
routes:
  auto: {candidates: [small, large]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_valid_config_loads() -> None:
    config = loads(VALID).config
    assert config.routes["auto"].candidates == ["small", "large"]
    assert str(config.models["small"].prices.input) == "0.15"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: openai", "kind: opnai", "<config>:2: upstreams.openai.kind: must be one of"),
        (
            "prices: {input",
            "prizes: {input",
            "<config>:4: models.small.prizes: unknown key (did you mean `prices`?)",
        ),
        (
            "{upstream: openai}",
            "{upstream: opnai}",
            (
                "<config>:5: models.large.upstream: no upstream named `opnai` "
                "(did you mean `openai`?)"
            ),
        ),
        ("{upstream: openai}", "{}", "<config>:5: models.large.upstream: is required"),
        (
            "[small, large]",
            "[small, larg]",
            "<config>:7: routes.auto.candidates[1]: no model named `larg` (did you mean `large`?)",
        ),
        (
            "[small, large]",
            "[small, small]",
            "<config>:7: routes.auto.candidates[1]: `small` is listed twice",
        ),
        ("[small, large]", "[]", "<config>:7: routes.auto.candidates: list should have at least 1"),
        ("auto:", "small:", "<config>:7: routes.small: `small` is already the name of a model"),
        ("auto:", "pointsman/x:", "<config>:7: routes.pointsman/x: `pointsman/x` is reserved"),
        ("input: 0.15", "input: -1", "<config>:4: models.small.prices.input: input should be"),
        ("input: 0.15", "input: .nan", "<config>:4: models.small.prices.input:"),
        ("input: 0.15", "input: x", "<config>:4: models.small.prices.input:"),
        (
            "https://api",
            "ftp://api",
            "<config>:2: upstreams.openai.base_url: must be an http or https address",
        ),
        ("https://api", "https://user:pw@api", "<config>:2: upstreams.openai.base_url: must be"),
        ("openai.com/v1", "openai.com:99999/v1", "<config>:2: upstreams.openai.base_url: must be"),
        ("com/v1", "com/v1/chat/completions", "<config>:2: upstreams.openai.base_url: must end"),
        ("${KEY:-none}", "${KEY:-}", "<config>:2: upstreams.openai.api_key: is empty"),
        ("${KEY:-none}", "$KEY", "<config>:2: upstreams.openai.api_key: is not filled in"),
        ("${KEY:-none}", "Bearer sk-1", "<config>:2: upstreams.openai.api_key: must be the key"),
        ("${KEY:-none}", "a\\nb", "<config>:2: upstreams.openai.api_key: must be printable"),
        (
            "kind: openai,",
            "kind: openai, headers: {Host: x},",
            "<config>:2: upstreams.openai.headers.Host: is set by the gateway itself",
        ),
        ("kind: openai, ", "", "<config>:2: upstreams.openai: `kind` is required"),
        (
            "large: {upstream: openai}",
            "large: {upstream: openai, max_output: 9, context_window: 8}",
            "<config>:5: models.large: `max_output` is larger than `context_window`",
        ),
        ("auto:", "pinned:", "<config>:7: routes.pinned: `pinned` is reserved"),
        (
            "[small, large]",
            "[small, large], objective: {kind: qualty}",
            "<config>:7: routes.auto.objective.kind: must be one of",
        ),
        (
            "[small, large]",
            "[small, large], objective: {kind: quality, kep: 0.9}",
            "<config>:7: routes.auto.objective.kep: unknown key (did you mean `keep`?)",
        ),
        (
            "[small, large]",
            "[small, large], objective: {kind: threshold, threshold: 0.5, strong: lrge}",
            (
                "<config>:7: routes.auto.objective.strong: `lrge` is not a candidate of this route "
                "(did you mean `large`?)"
            ),
        ),
        (
            "prices: {input: 0.15, output: 0.6}",
            "like: a, quality: 0.5",
            "<config>:4: models.small: give `like` or `quality`, not both",
        ),
        ("${KEY:-none}", "${KEY}", "<config>:2: upstreams.openai.api_key: environment variable"),
        ("large: {", "small: {", "<config>:5: not YAML: found duplicate key"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str) -> None:
    assert old in VALID
    found = problems(VALID.replace(old, new, 1))
    assert any(problem.startswith(message) for problem in found), found


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{url: 'mysql://h/d'}", "<config>:8: ledger.url: must be sqlite:///PATH or postgresql://"),
        ("{url: 'sqlite:///'}", "<config>:8: ledger.url: must be sqlite:///PATH"),
        ("{url: 'sqlite:///:memory:'}", "<config>:8: ledger.url: must be on the disk"),
        ("{retention_days: 0}", "<config>:8: ledger.retention_days: input should be greater"),
        ("{keep_prompts: true}", "unknown key (did you mean `keep_prompt_text`?)"),
    ],
)
def test_a_mistaken_ledger_is_named(written: str, message: str) -> None:
    (problem,) = problems(f"{VALID}ledger: {written}\n")
    assert message in problem


@pytest.mark.parametrize("written", ["null", "{url: null}", "{url: 'postgres://u:p@h:1/d'}", "{}"])
def test_a_ledger_may_be_elsewhere_or_nowhere(written: str) -> None:
    loads(f"{VALID}ledger: {written}\n")


def test_every_mistake_is_reported_at_once() -> None:
    text = VALID.replace("kind: openai", "knd: openai").replace("small, large", "small, lrge")
    assert len(problems(text + "sever: {}\n")) >= 3


@pytest.mark.parametrize("text", ["", "[]", "x", "a: [", "a: &x [*x]", "\t", "!!python/name:os x"])
def test_what_is_no_config_is_refused(text: str) -> None:
    assert problems(text)


@given(st.text(max_size=200))
def test_no_text_breaks_the_loader(text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text)


def test_values_are_never_shown() -> None:
    secret = "sk-very-secret"
    text = VALID.replace("https://api.openai.com/v1", secret).replace("${KEY:-none}", secret)
    assert not any(secret in problem for problem in problems(text))
    assert secret not in repr(loads(VALID.replace("${KEY:-none}", secret)).config)


def test_variables_cannot_change_the_structure(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(VALID)
    key = "x}, models: {"
    upstream = load(file, {"KEY": key}).config.upstreams["openai"]
    assert upstream.kind == "openai"
    assert upstream.api_key is not None
    assert upstream.api_key.get_secret_value() == key


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "none.yaml")


def test_a_key_may_end_in_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(VALID)
    upstream = load(file, {"KEY": "sk-1\n"}).config.upstreams["openai"]
    assert upstream.kind == "openai"
    assert upstream.api_key is not None
    assert upstream.api_key.get_secret_value() == "sk-1"


def test_a_missing_variable_hides_no_other_mistake() -> None:
    text = VALID.replace("${KEY:-none}", "${KEY}").replace("https://api.openai.com/v1", '"${HOST}"')
    text = text.replace("{upstream: openai}", "{upstream: opnai}")
    assert [one.partition(" is")[0].partition(" (did")[0] for one in problems(text)] == [
        "<config>:2: upstreams.openai.api_key: environment variable KEY",
        "<config>:2: upstreams.openai.base_url: environment variable HOST",
        "<config>:5: models.large.upstream: no upstream named `opnai`",
    ]
