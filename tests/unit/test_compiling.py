"""What a file alone can't show, `encode` above all: found at `check`, with the line to mend."""

from collections.abc import Callable
from typing import Any

import pytest

from app import compiling, opened
from app.config.load import loads
from app.errors import ArtifactError, ConfigError
from app.lab.synthetic import WordEncoder
from tests.readers import ReaderArtifact

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  small: {upstream: u, prices: {input: 1, output: 1}}
  large: {upstream: u, prices: {input: 9, output: 9}}
routes:
  auto:
    candidates: [small, large]
    encode: ENCODE
  stated: {candidates: [small, large], router: null, encode: always}
"""

Compile = Callable[..., compiling.Compiled]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compiles the text with a router that is not on the disk."""

    def compile_(encode: str, encoder: Any = WordEncoder, **artifact: bool) -> compiling.Compiled:
        monkeypatch.setattr(opened, "load_artifact", lambda _: ReaderArtifact(**artifact))
        monkeypatch.setattr(opened.Opened, "encoder", lambda *_: encoder())
        return compiling.compile_config(loads(TEXT.replace("ENCODE", encode)))

    return compile_


def broken() -> None:
    raise ArtifactError("encoder nowhere: model.onnx is missing")


def test_routes_that_never_encode_need_no_encoder(compiled: Compile) -> None:
    assert compiled("never", broken).encoder is None
    with pytest.raises(ConfigError, match=r"model\.onnx is missing"):
        compiled("when-unsure", broken)


def test_a_router_without_a_taste_for_words_cannot_do_without_vectors(compiled: Compile) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled("never", reads_text=False)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (8, "routes.auto.encode")
    assert "vectors alone" in problem.message
    assert compiled("always", reads_text=False).encoder is not None


def test_a_foreign_encoder_matters_only_to_who_uses_it(compiled: Compile) -> None:
    class Foreign(WordEncoder):
        fingerprint = "another"

    with pytest.raises(ConfigError, match="another encoder"):
        compiled("always", Foreign)
    assert compiled("never", Foreign).names.routes["auto"].encode == "never"


def test_stated_qualities_are_never_encoded_for(compiled: Compile) -> None:
    routes = compiled("when-unsure").names.routes
    assert (routes["auto"].encode, routes["stated"].encode) == ("when-unsure", "never")


def test_a_database_without_its_driver(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda _: None)
    assert compiled("never").config.ledger is not None
    text = TEXT.replace("ENCODE", "never") + "ledger: {url: 'postgresql://me@host/name'}\n"
    with pytest.raises(ConfigError, match=r"ledger\.url: PostgreSQL needs a driver .*\[postgres\]"):
        compiling.compile_config(loads(text))


def test_traces_without_their_library(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT.replace("ENCODE", "never") + "tracing: {}\n"
    assert compiling.compile_config(loads(text)).config.tracing is not None

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(compiling, "find_spec", missing)
    with pytest.raises(ConfigError, match=r"tracing: needs OpenTelemetry.*\[otel\]"):
        compiling.compile_config(loads(text))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otlp.example.com/", "https://otlp.example.com/v1/traces"),
        ("https://example.com/otlp/v1/traces", "https://example.com/otlp/v1/traces"),
        ("grpc://127.0.0.1:4317", None),
        ("http://user:password@127.0.0.1:4318", None),
    ],
)
def test_where_traces_go(written: str, meant: str | None) -> None:
    text = TEXT.replace("ENCODE", "never") + f"tracing: {{endpoint: '{written}'}}\n"
    if meant is None:
        with pytest.raises(
            ConfigError, match=r"tracing\.endpoint: must be an http or https address"
        ):
            loads(text)
    else:
        tracing = loads(text).config.tracing
        assert tracing is not None
        assert tracing.endpoint == meant
