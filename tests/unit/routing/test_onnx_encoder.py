"""The shipped encoder: there, unaltered, deterministic, and fast to refuse what is not one."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.errors import ArtifactError
from app.routing.encoder.onnx import OnnxEncoder

SHIPPED = Path(__file__).parents[3] / "router_models" / "encoder-minilm"


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(SHIPPED)


def test_vectors_have_unit_length_and_mean_something(encoder: OnnxEncoder) -> None:
    cat, kitten, tax = encoder.encode(
        ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "How is income tax computed?"]
    )
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.6 > 0.3 > cat @ tax


def test_a_vector_does_not_depend_on_its_neighbours(encoder: OnnxEncoder) -> None:
    text = "What is the boiling point of water at sea level?"
    alone = encoder.encode([text])[0]
    among = encoder.encode(["short", text, "long " * 300])[1]
    assert np.array_equal(alone, among)


def test_long_texts_keep_head_and_tail(encoder: OnnxEncoder) -> None:
    filler = "lorem ipsum dolor " * 2_000
    ids = encoder.token_ids(f"beginning {filler} ending")
    assert len(ids) == encoder.max_tokens
    short = encoder.token_ids("beginning ending")
    assert (ids[0], ids[1], ids[-2], ids[-1]) == (short[0], short[1], short[-2], short[-1])


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "字" * 5_000, "a" * 100_000, "🙂 é ß", "\ud800 half"]
)
def test_any_text_has_a_finite_vector(encoder: OnnxEncoder, text: str) -> None:
    vector = encoder.encode([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_no_texts_no_vectors(encoder: OnnxEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_manifest_names_source_licence_and_command() -> None:
    manifest = orjson.loads((SHIPPED / "manifest.json").read_bytes())
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["source"] == "all-MiniLM-L6-v2"
    assert manifest["command"].startswith("pointsman encoder export")


def test_refuses_what_is_not_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read manifest\.json"):
        OnnxEncoder(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        OnnxEncoder(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="does not describe an encoder"):
        OnnxEncoder(tmp_path)


def test_refuses_another_version_and_altered_files(tmp_path: Path) -> None:
    for name in ("manifest.json", "tokenizer.json"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest | {"version": 99}))
    with pytest.raises(ArtifactError, match="version 99"):
        OnnxEncoder(tmp_path)
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"cannot read model\.onnx"):
        OnnxEncoder(tmp_path)
    (tmp_path / "model.onnx").write_bytes((SHIPPED / "model.onnx").read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="do not match the manifest"):
        OnnxEncoder(tmp_path)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from pathlib import Path; from app.routing.encoder.onnx import OnnxEncoder; "
        "import app.routing.artifact; "
        f"OnnxEncoder(Path({str(SHIPPED)!r})).encode(['x']); "
        "bad = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'app.lab'}; "
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
