"""A router directory: opened, bound to candidates, and refused with a reason if not whole."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.errors import ArtifactError
from app.lab.outcomes import OutcomeTable
from app.lab.synthetic import TOPICS, WordEncoder
from app.lab.train import TrainSettings, prepare, train_on, write_router
from app.routing.artifact import FILES, load_artifact, usual_support
from app.routing.estimators.base import Candidate, Query
from app.routing.estimators.frame import CELL_SUPPORT
from app.routing.index import IndexSettings, VectorIndex, build_index, write_index

SHIPPED = Path(__file__).parents[3] / "router_models" / "default"
CANDIDATES = [
    Candidate("small"),
    Candidate("theirs", like="org/LARGE"),
    Candidate("stated", quality=0.8),
    Candidate("unknown"),
]


@pytest.fixture
def broken(router_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(router_directory, tmp_path / "router"))


def ask(words: str) -> Query:
    return Query(words, WordEncoder().encode([words])[0])


def test_knows_models_however_spelt(router_directory: Path) -> None:
    artifact = load_artifact(router_directory)
    assert artifact.models == ("large", "medium", "small")
    assert artifact.knows("org/Small") == "small"
    assert artifact.knows("other") is None
    assert artifact.encoder_fingerprint == WordEncoder.fingerprint
    artifact.verify()


def test_every_kind_of_candidate_is_estimated(router_directory: Path) -> None:
    estimator = load_artifact(router_directory).estimator(CANDIDATES)
    estimate = estimator.estimate(ask(TOPICS["proofs"][1]))
    assert estimate.models == ("small", "theirs", "stated", "unknown")
    assert ((estimate.quality > 0) & (estimate.quality < 1)).all()
    assert estimate.quality[1] > estimate.quality[0] + 0.2
    assert estimate.novelty < 0.2
    small, like, stated, unknown = estimate.support
    assert small > like > stated > unknown > 0
    assert estimate.output_tokens[1] > 1.5 * estimate.output_tokens[0]


def test_an_unknown_model_feels_how_hard_the_prompt_is(router_directory: Path) -> None:
    estimator = load_artifact(router_directory).estimator(CANDIDATES)
    easy = estimator.estimate(ask(TOPICS["sums"][1])).quality
    hard = estimator.estimate(ask(TOPICS["proofs"][1])).quality
    assert easy[2] > hard[2] + 0.1
    assert easy[3] > hard[3] + 0.1


def test_the_unlike_falls_back_to_standing(router_directory: Path) -> None:
    estimator = load_artifact(router_directory).estimator(CANDIDATES)
    strange = Query("", -WordEncoder().encode([" ".join(w for _, w in TOPICS.values())])[0])
    estimate = estimator.estimate(strange)
    assert estimate.novelty == 1.0
    familiar = estimator.estimate(ask(TOPICS["law"][1]))
    assert (estimate.support <= familiar.support).all()
    assert estimate.support[0] < 0.5 * familiar.support[0]
    assert estimate.quality[2] == pytest.approx(0.8, abs=0.01)
    without = estimator.estimate(Query("not encoded", None))
    assert without.quality == pytest.approx(estimate.quality)
    assert without.novelty == 1.0


def test_usual_support_is_about_that_of_prompts_like_the_outcomes(
    router_directory: Path, table: OutcomeTable
) -> None:
    """What stands in for it where only the words are read; nothing for a model without outcomes."""
    artifact = load_artifact(router_directory)
    standings = [artifact._standing(candidate) for candidate in (CANDIDATES[0], CANDIDATES[3])]
    known = artifact._known()
    usual = usual_support(known, standings)
    assert usual[1] == 0.0
    estimator = artifact.estimator([CANDIDATES[0]])
    seen = [
        estimator.estimate(Query("", vector)).support[0] - standings[0].support
        for vector in WordEncoder().encode(table.prompts[:50])
    ]
    assert usual[0] == pytest.approx(np.median(seen), rel=0.4)
    few = replace(known, table=replace(known.table, counts=np.full_like(known.table.counts, 0.1)))
    assert usual[0] - usual_support(few, standings)[0] == pytest.approx(CELL_SUPPORT - 0.1)


def test_neighbours_explain(router_directory: Path) -> None:
    estimator = load_artifact(router_directory).estimator(CANDIDATES)
    neighbours = estimator.neighbours(ask(TOPICS["law"][1]), 5)
    assert len(neighbours) == 5
    assert [n.similarity for n in neighbours] == sorted(n.similarity for n in neighbours)[::-1]
    assert neighbours[0].task == "law"
    assert neighbours[0].id.startswith("synthetic/")
    assert set(neighbours[0].scores) == {"small", "theirs"}
    assert estimator.neighbours(Query("", None), 5) == ()


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_named(broken: Path, name: str) -> None:
    content = (broken / name).read_bytes()
    (broken / name).write_bytes(content[:-3])
    with pytest.raises(ArtifactError, match=f"{name} is truncated or altered"):
        load_artifact(broken)
    (broken / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_artifact(broken)


def test_a_truncated_or_missing_array_of_the_kind_is_named(
    table: OutcomeTable, tmp_path: Path
) -> None:
    """Here of the matrix factorisation: the smoothed kNN has none."""
    rows = table.take(np.arange(100))
    settings = TrainSettings(estimator="matrix-factorization")
    ground = prepare(rows, WordEncoder().encode(rows.prompts), settings)
    entry = {"fingerprint": WordEncoder.fingerprint}
    write_router(train_on(ground, settings), tmp_path / "router", entry, {})
    artifact = load_artifact(tmp_path / "router")
    assert artifact.kind == "matrix-factorization"
    assert set(artifact.method_arrays) == set(artifact.manifest["estimator"]["arrays"])
    path = tmp_path / "router" / "method-level.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(ArtifactError, match=r"method-level\.npy is truncated or altered"):
        load_artifact(tmp_path / "router")
    path.write_bytes(b"?" * len(whole))
    with pytest.raises(ArtifactError, match=r"method-level\.npy cannot be read"):
        load_artifact(tmp_path / "router")
    path.unlink()
    with pytest.raises(ArtifactError, match=r"method-level\.npy is missing"):
        load_artifact(tmp_path / "router")


def test_a_flipped_byte_is_found_by_verify(broken: Path) -> None:
    content = bytearray((broken / "cells.npy").read_bytes())
    content[-1] ^= 1
    (broken / "cells.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"altered since it was trained: cells\.npy"):
        load_artifact(broken).verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99 of the format, this release reads 3"),
        ({"format": "else"}, "does not describe a router"),
        ({"rows": 7}, "parts do not belong together"),
        ({"files": {}}, r"does not list vectors\.faiss"),
        ({"version": 2, "reads_text": False}, "version 2 of .* reads 3; train it again"),
        ({"estimator": {"kind": "pols"}}, "'pols', .* did you mean `pools`.; train it again"),
        ({"estimator": {"kind": "??"}}, "valid: .*knn.*; train it again"),
        ({"estimator": "knn"}, "its estimator is 'knn'"),
        ({"estimator": {"kind": "knn", "arrays": []}}, r"lacks estimator\.reads_text"),
    ],
)
def test_a_wrong_manifest_is_refused(broken: Path, change: dict[str, object], message: str) -> None:
    path = broken / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change))
    with pytest.raises(ArtifactError, match=message):
        load_artifact(broken)


def test_what_is_no_router_is_refused(tmp_path: Path, broken: Path) -> None:
    with pytest.raises(ArtifactError, match="pointsman train"):
        load_artifact(tmp_path / "nowhere")
    (broken / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        load_artifact(broken)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vectors.faiss").write_bytes(b"not an index at all")
    with pytest.raises(ArtifactError, match="cannot be read"):
        VectorIndex.open(tmp_path / "vectors.faiss", 0)


def test_the_large_kind_of_index_finds_what_exact_search_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5_000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    settings = IndexSettings.for_size(len(vectors))
    assert settings.lists
    write_index(build_index(vectors, settings), tmp_path / "i")
    index = VectorIndex.open(tmp_path / "i", settings.lists)
    similarities, rows = index.search(vectors[17], 20)
    assert rows[0] == 17
    exact = np.argsort(-(vectors @ vectors[17]))[:20]
    assert len(set(rows.tolist()) & set(exact.tolist())) >= 17
    assert (np.diff(similarities) <= 0).all()


class TestTheShippedRouter:
    def test_is_whole_and_says_where_it_comes_from(self) -> None:
        artifact = load_artifact(SHIPPED)
        artifact.verify()
        sources = artifact.manifest["provenance"]["sources"]
        assert set(sources) == set(artifact.manifest["rows_by_source"])
        assert not set(sources) & {"routerarena", "llmrouter"}
        assert all(
            entry.keys() == {"repository", "commit", "licence"} for entry in sources.values()
        )

    def test_belongs_to_the_shipped_encoder(self) -> None:
        encoder = orjson.loads((SHIPPED.parent / "encoder-minilm" / "manifest.json").read_bytes())
        assert load_artifact(SHIPPED).encoder_fingerprint == encoder["fingerprint"]

    def test_knows_popular_models(self) -> None:
        artifact = load_artifact(SHIPPED)
        for name in ("gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet", "mixtral-8x7b-instruct-v0.1"):
            assert artifact.knows(name), name

    def test_fits_the_budget_of_the_history(self) -> None:
        size = sum(path.stat().st_size for path in SHIPPED.iterdir())
        assert size < 15_000_000

    def test_decides_well_under_a_millisecond(self) -> None:
        artifact = load_artifact(SHIPPED)
        estimator = artifact.estimator([Candidate("gpt-4o"), Candidate("gpt-4o-mini")])
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal((200, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        seconds = []
        for vector in vectors:
            started = time.perf_counter()
            estimator.estimate(Query("", vector))
            seconds.append(time.perf_counter() - started)
        # The target is 0.5 ms; a shared machine gets slack here, benchmarks hold the figure.
        assert np.median(seconds) < 0.003
