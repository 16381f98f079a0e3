"""The heads of a tuned encoder: plain numpy, checked against numbers worked out by hand."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.errors import ArtifactError
from app.routing.estimators.classifier import (
    HEADS_FILE,
    LOSS,
    TIE,
    WIN,
    ClassifierHeads,
    PairHead,
    TunedHeads,
    read_heads,
)

WEIGHTS = np.array([[2.0, 0.0, -1.0], [0.0, 4.0, 1.0], [0.5, -1.0, 0.0]], dtype=np.float32)
VECTORS = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_quality_is_the_sigmoid_of_a_product_with_the_bias_last() -> None:
    quality = ClassifierHeads(WEIGHTS).quality(VECTORS)
    assert quality.shape == (2, 3)
    assert quality[0] == pytest.approx([sigmoid(2.5), sigmoid(-1.0), sigmoid(-1.0)])
    assert quality[1] == pytest.approx([sigmoid(0.5), sigmoid(3.0), sigmoid(1.0)])
    assert ClassifierHeads(WEIGHTS).quality(VECTORS[:0]).shape == (0, 3)


def test_select_gives_the_models_asked_for_in_their_order() -> None:
    heads = ClassifierHeads(WEIGHTS)
    assert np.array_equal(heads.select([2, 0]).quality(VECTORS), heads.quality(VECTORS)[:, [2, 0]])


def test_the_strong_model_wins_where_it_neither_ties_nor_loses() -> None:
    head = PairHead(WEIGHTS)
    probabilities = head.probabilities(VECTORS)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    odds = np.exp([2.5, -1.0, -1.0])
    assert probabilities[0] == pytest.approx(odds / odds.sum())
    wins = head.strong_wins(VECTORS)
    assert wins == pytest.approx(probabilities[:, WIN])
    assert wins == pytest.approx(1 - probabilities[:, TIE] - probabilities[:, LOSS])


def test_large_outputs_do_not_overflow() -> None:
    big = np.full((3, 3), 1e4, dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert PairHead(big).probabilities(VECTORS) == pytest.approx(1 / 3)
        assert ClassifierHeads(big).quality(VECTORS) == pytest.approx(1.0)


def encoder_with_heads(directory: Path, *, pair: bool, dimensions: int = 2) -> TunedHeads:
    """The part of an encoder's directory that heads need."""
    heads = TunedHeads(
        models=("a", "b", "c"),
        quality=ClassifierHeads(WEIGHTS),
        strong="a" if pair else None,
        weak="b" if pair else None,
        pair=PairHead(WEIGHTS * 2) if pair else None,
    )
    content, entry = heads.write()
    (directory / HEADS_FILE).write_bytes(content)
    manifest = {
        "format": "pointsman-encoder",
        "version": 1,
        "fingerprint": "x",
        "dimensions": dimensions,
        "max_tokens": 16,
        "tail_tokens": 4,
        "heads": entry,
        "files": {HEADS_FILE: {"sha256": sha256(content).hexdigest()}},
    }
    (directory / "manifest.json").write_bytes(orjson.dumps(manifest))
    return heads


@pytest.mark.parametrize("pair", [False, True])
def test_heads_are_read_as_they_were_written(tmp_path: Path, pair: bool) -> None:
    heads = encoder_with_heads(tmp_path, pair=pair)
    read = read_heads(tmp_path)
    assert (read.models, read.strong, read.weak) == (heads.models, heads.strong, heads.weak)
    assert np.array_equal(read.quality.weights, WEIGHTS)
    assert (read.pair is not None) == pair
    if read.pair is not None:
        assert np.array_equal(read.pair.weights, WEIGHTS * 2)
    assert heads.write() == heads.write(), "the same heads give the same bytes"


def test_heads_that_are_missing_altered_or_of_another_encoder_are_refused(tmp_path: Path) -> None:
    encoder_with_heads(tmp_path, pair=False, dimensions=7)
    with pytest.raises(ArtifactError, match=r"weights is \(3, 3\), not \(8, 3\)"):
        read_heads(tmp_path)
    encoder_with_heads(tmp_path, pair=False)
    content = (tmp_path / HEADS_FILE).read_bytes()
    (tmp_path / HEADS_FILE).write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="does not match the manifest"):
        read_heads(tmp_path)
    (tmp_path / HEADS_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"cannot read head\.npz"):
        read_heads(tmp_path)


def test_an_encoder_without_heads_says_how_to_get_them(tmp_path: Path) -> None:
    encoder_with_heads(tmp_path, pair=False)
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    del manifest["heads"]
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match="--objective classifier"):
        read_heads(tmp_path)
