"""A tuned model becomes an ordinary encoder directory, from Python and from the command line; needs
the `train` extra.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from app.cli import encoder as cli
from app.cli import route, train
from app.lab.outcomes import OutcomeTable
from app.lab.synthetic import synthetic_rows
from app.lab.tuning import TunedClassifier, TuneSettings, export, tune_classifier
from app.lab.tuning.torch_steps import encode
from app.routing.encoder.onnx import OnnxEncoder, read_manifest
from app.routing.estimators.classifier import read_heads

pytest.importorskip("sentence_transformers")
pytest.importorskip("onnxscript")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def settings(tiny_model: str) -> TuneSettings:
    return TuneSettings(
        source=tiny_model, strong="large", weak="small", steps=60, max_tokens=16, threads=1
    )


@pytest.fixture(scope="module")
def tuned(table: OutcomeTable, settings: TuneSettings) -> TunedClassifier:
    return tune_classifier(table, replace(settings, learning_rate=1e-3))


def test_the_exported_classifier_agrees_with_torch(
    tuned: TunedClassifier, table: OutcomeTable, settings: TuneSettings, tmp_path: Path
) -> None:
    manifest = export(tuned, tmp_path / "encoder", settings, None, {"data": "made up"})
    assert manifest == read_manifest(tmp_path / "encoder")
    encoder, heads = OnnxEncoder(tmp_path / "encoder"), read_heads(tmp_path / "encoder")
    vectors = encoder.encode(table.prompts[:50])
    original = encode(tuned.model, table.prompts[:50], settings)
    assert np.einsum("nd,nd->n", vectors, original).min() > 0.999
    assert heads.models == tuned.heads.models
    exported = heads.quality.quality(vectors)
    assert exported == pytest.approx(tuned.heads.quality.quality(original), abs=0.01)
    assert np.ptp(exported, axis=0).max() > 0.05, "the heads tell prompts apart"
    assert heads.pair is not None
    assert manifest["heads"]["pair"] == {"strong": "large", "weak": "small"}
    assert manifest["tuning"]["objective"] == "classifier"
    assert manifest["tuning"]["data"] == "made up"
    assert manifest["command"].startswith("pointsman encoder tune --data FILES --out DIR")
    assert set(manifest["files"]) == {"model.onnx", "tokenizer.json", "head.npz"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_bytes(
        b"\n".join(
            orjson.dumps(
                {
                    "id": row.id,
                    "source": row.source,
                    "task": row.task,
                    "prompt": row.prompt,
                    "outcomes": {name: {"score": o.score} for name, o in row.outcomes.items()},
                }
            )
            for row in synthetic_rows(200, seed=1)
        )
    )
    return path


def tune(data: Path, out: Path, source: str, *more: str) -> Result:
    common = ["tune", "--data", str(data), "--out", str(out), "--source", source, "--threads", "1"]
    return CliRunner().invoke(cli.command, [*common, *more])


def test_the_command_writes_an_encoder_of_its_own_fingerprint(
    data: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "encoder"
    steps = ["--steps", "30", "--lr", "1e-3", "--max-tokens", "16", "--json"]
    done = tune(data, out, tiny_model, "--objective", "task", *steps)
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout[done.stdout.index("{") :])
    assert report["manifest"]["tuning"]["steps"] == 30
    assert report["manifest"]["tuning"]["test_share"] == 0.15
    assert report["held_out"]["figure"] == "separation"
    assert report["held_out"]["after"] > report["held_out"]["before"]
    tuned = OnnxEncoder(out)
    assert tuned.dimensions == 32
    untouched = CliRunner().invoke(
        cli.command, ["export", "--source", tiny_model, "--out", str(tmp_path / "untouched")]
    )
    assert untouched.exit_code == 0, untouched.output
    assert OnnxEncoder(tmp_path / "untouched").fingerprint != tuned.fingerprint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "expert"], "give --strong and --weak"),
        (["--objective", "task", "--steps", "1", "--epochs", "1"], "not both"),
        (["--objective", "classifier", "--models", "nobody"], "no outcomes of: nobody"),
        (["--objective", "classifier", "--max-rows", "3"], "at least 16 are needed"),
        (["--objective", "guess"], "'guess' is not one of"),
    ],
)
def test_the_command_says_what_is_wrong(
    data: Path, tiny_model: str, tmp_path: Path, more: list[str], message: str
) -> None:
    done = tune(data, tmp_path / "encoder", tiny_model, *more)
    assert done.exit_code != 0
    assert message in done.output
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_heads_route_from_the_command_line_to_the_gateway(
    data: Path, tiny_model: str, tmp_path: Path
) -> None:
    """Tune, train with the heads, and serve with the router's own encoder named in the config."""
    router, options = tmp_path / "router", ["--steps", "30", "--max-tokens", "16"]
    objective = ["--objective", "classifier", "--test-share", "0.4", "--strong", "large"]
    done = tune(data, tmp_path / "tuned", tiny_model, *objective, "--weak", "small", *options)
    assert done.exit_code == 0, done.output
    arguments = ["--data", str(data), "--out", str(router), "--cache", str(tmp_path / "cache")]
    arguments += ["--estimator", "classifier", "--encoder", str(tmp_path / "tuned"), "--json"]
    done = CliRunner().invoke(train.command, arguments)
    assert done.exit_code == 0, done.output
    settings = orjson.loads(done.stdout)["manifest"]["estimator"]["settings"]
    assert settings["calibration_rows"] > 0
    assert settings["pair"]["strong"] == "large"
    (tmp_path / "tuned").rename(router / "encoder")
    config = tmp_path / "pointsman.yaml"
    config.write_text(
        "encoder: {model: router/encoder}\n"
        "upstreams: {made-up: {kind: simulated}}\n"
        "models:\n"
        "  small: {upstream: made-up, prices: {input: 1, output: 1}}\n"
        "  large: {upstream: made-up, prices: {input: 9, output: 9}}\n"
        "routes:\n"
        "  auto: {router: router, candidates: [small, large], objective: {kind: quality}}\n"
    )
    done = CliRunner().invoke(route.command, ["add apples", "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    candidates = orjson.loads(done.stdout)["candidates"]
    assert all(0 < candidate["quality"] < 1 for candidate in candidates)


def test_training_heads_that_are_not_there_says_so_before_it_encodes(
    data: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(data), "--out", str(tmp_path / "router"), "--cache", str(tmp_path)]
    done = CliRunner().invoke(train.command, [*arguments, "--estimator", "classifier"])
    assert done.exit_code == 2
    assert "pointsman encoder tune --objective classifier" in done.output
    assert list(tmp_path.iterdir()) == []
