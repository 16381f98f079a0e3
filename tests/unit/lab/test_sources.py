"""What is published for evaluation only is not trained on."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from app.cli import calibrate, encoder
from app.cli.train import command
from app.errors import DataError
from app.lab.outcomes import Outcome, OutcomeRow
from app.lab.sources import EVALUATION_ONLY, KNOWN_SOURCES, refuse_evaluation_only
from app.lab.synthetic import WordEncoder


def row(source: str) -> OutcomeRow:
    return OutcomeRow(f"{source}/1", source, "t", "p", {"m": Outcome(1.0)})


def test_only_rows_that_may_be_trained_on() -> None:
    refuse_evaluation_only(row(source) for source in KNOWN_SOURCES if source != "routerarena")
    assert set(KNOWN_SOURCES) >= EVALUATION_ONLY
    for source in ("routerarena", "RouterArena"):
        with pytest.raises(DataError, match=rf"{source}/1: field source: .*evaluation only"):
            refuse_evaluation_only([row("mine"), row(source)])


def test_training_refuses_them_and_writes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "routerarena.jsonl"
    data.write_bytes(orjson.dumps({"prompt": "p", "outcomes": {"m": {"score": 1}}}))
    out = tmp_path / "router"
    result = CliRunner().invoke(command, ["--data", str(data), "--out", str(out)])
    assert result.exit_code == 2
    assert "routerarena is published for evaluation only" in " ".join(result.output.split())
    assert not out.exists()


def test_neither_calibrating_nor_tuning_takes_them(
    router_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.routing.encoder.onnx.OnnxEncoder", lambda _: WordEncoder())
    data = tmp_path / "routerarena.jsonl"
    data.write_bytes(orjson.dumps({"prompt": "p", "outcomes": {"large": {"score": 1}}}))
    promise = ["--router", str(router_directory), "--data", str(data), "--strong", "large"]
    refused = CliRunner().invoke(calibrate.command, [*promise, "--weak", "small"])
    assert "published for evaluation only" in str(refused.exception)
    assert not (router_directory / "guarantees.json").exists()
    out = tmp_path / "encoder"
    tuned = ["tune", "--data", str(data), "--out", str(out), "--objective", "task"]
    done = CliRunner().invoke(encoder.command, tuned)
    assert "published for evaluation only" in " ".join(done.output.split())
    assert not out.exists()
