"""Training on a world whose truth is known: it is found, written whole, and repeats to the byte."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from app.cli import eval as eval_cli
from app.cli import train as cli
from app.errors import DataError
from app.lab import train as training
from app.lab.embedding import EmbeddingCache, embed_all
from app.lab.figures import ROUTER
from app.lab.fit import FitSettings, fit_lengths, fit_table
from app.lab.ground import fold_of
from app.lab.measuring import MeasureSettings, measure
from app.lab.outcomes import OutcomeTable, build_table
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows, train_synthetic, true_quality
from app.lab.train import TrainSettings, train
from app.routing.artifact import load_artifact
from app.routing.estimators.base import Candidate, Query


def retrain(table: OutcomeTable, out: Path, seed: int = 0) -> dict[str, bytes]:
    train_synthetic(table, out, seed)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_same_seed_gives_the_same_bytes(
    table: OutcomeTable, router_directory: Path, tmp_path: Path
) -> None:
    again = retrain(table, tmp_path / "again")
    for name, content in again.items():
        assert content == (router_directory / name).read_bytes(), name


def test_vectors_do_not_depend_on_the_seed(
    table: OutcomeTable, router_directory: Path, tmp_path: Path
) -> None:
    other = retrain(table, tmp_path / "other", seed=5)
    assert other["vectors.faiss"] == (router_directory / "vectors.faiss").read_bytes()
    assert other["manifest.json"] != (router_directory / "manifest.json").read_bytes()


def test_finds_the_truth(router_directory: Path) -> None:
    models = ["small", "medium", "large"]
    estimator = load_artifact(router_directory).estimator([Candidate(name) for name in models])
    errors = []
    for topic, (_, words) in TOPICS.items():
        prompt = " ".join(words.split()[:6])
        vector = WordEncoder().encode([prompt])[0]
        quality = estimator.estimate(Query(prompt, vector)).quality
        errors += [q - true_quality(name, topic) for q, name in zip(quality, models, strict=True)]
    assert float(np.sqrt(np.mean(np.square(errors)))) < 0.12


def test_beats_chance_on_prompts_it_has_not_seen(router_directory: Path) -> None:
    fresh = build_table(synthetic_rows(800, seed=2), merge=False)
    settings = MeasureSettings(strong="large", weak="small", robustness=0, repeats=50)
    (source,) = measure(load_artifact(router_directory), WordEncoder(), fresh, settings).sources
    assert len(source.trial) == 800
    apgr = source.method(ROUTER).ranking["apgr"]
    assert apgr.interval is not None
    assert 0.6 < apgr.value < apgr.interval[1]
    assert 0.55 < apgr.interval[0] < apgr.value


def test_no_prompt_text_is_kept(table: OutcomeTable, router_directory: Path) -> None:
    everything = b"".join(path.read_bytes() for path in router_directory.iterdir())
    assert not any(prompt.encode() in everything for prompt in table.prompts)
    assert not any(word.encode() in everything for word in ("compact", "statute", "invite"))


def test_nothing_is_left_behind_when_writing_fails(
    table: OutcomeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain(table, tmp_path / "router")
    before = (tmp_path / "router" / "manifest.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(training, "write_index", fail)
    with pytest.raises(OSError, match="disk full"):
        retrain(table, tmp_path / "router", seed=3)
    with pytest.raises(OSError, match="disk full"):
        retrain(table, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["router"]
    assert (tmp_path / "router" / "manifest.json").read_bytes() == before


def test_too_little_to_learn_from() -> None:
    few = build_table(synthetic_rows(5, seed=1))
    with pytest.raises(DataError, match="5 rows to train on"):
        train(few, WordEncoder().encode(few.prompts), TrainSettings())
    same = build_table(synthetic_rows(50, seed=1))
    same.scores[:] = 1.0
    with pytest.raises(DataError, match="all scores are equal"):
        train(same, WordEncoder().encode(same.prompts), TrainSettings())


def test_a_kind_that_does_not_exist_is_refused(table: OutcomeTable) -> None:
    few = table.take(np.arange(40))
    vectors = WordEncoder().encode(few.prompts)
    with pytest.raises(DataError, match=r"called clustrs; did you mean `clusters`\?"):
        train(few, vectors, TrainSettings(estimator="clustrs"))


def test_models_scored_on_different_prompts_are_comparable() -> None:
    """`large` on the hard topics and `small` on the easy ones only: raw means would mislead."""
    rows = synthetic_rows(3000, seed=4)
    kept = []
    for row in rows:
        hard = row.task in ("proofs", "law")
        names = ("medium", "large") if hard else ("small", "medium")
        outcomes = {name: row.outcomes[name] for name in names}
        kept.append(type(row)(row.id, row.source, row.task, row.prompt, outcomes))
    table = build_table(kept)
    means = np.nanmean(table.scores, axis=0)
    large, small = table.columns["large"], table.columns["small"]
    assert means[small] > means[large]
    fitted = fit_table(WordEncoder().encode(table.prompts), table.scores, FitSettings(), seed=0)
    assert fitted.table.ability[large] - fitted.table.ability[small] > 0.7


def test_a_model_with_few_rows_is_placed_everywhere(table: OutcomeTable) -> None:
    scores = table.scores.copy()
    scores[3:, 0] = np.nan
    fitted = fit_table(WordEncoder().encode(table.prompts), scores, FitSettings(), seed=0)
    assert np.isfinite(fitted.prior()).all()
    assert np.abs(fitted.table.cells[:, 0]).max() < 4.0, "three answers say little of a cluster"


def test_lengths_are_a_product() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 3, 600).astype(np.uint16)
    tokens = (np.array([50, 100, 400])[clusters][:, None] * [1.0, 3.0]).astype(np.float32)
    tokens[clusters == 2, 1] = np.nan
    fitted = fit_lengths(tokens, clusters, 3)
    assert fitted.wordiness[1] / fitted.wordiness[0] == pytest.approx(3.0, rel=0.05)
    assert fitted.cluster_length[2] / fitted.cluster_length[0] == pytest.approx(8.0, rel=0.05)
    unknown = fit_lengths(np.full((5, 2), np.nan, np.float32), np.zeros(5, np.uint16), 1)
    assert np.isnan(unknown.overall)


def test_folds_keep_a_question_together() -> None:
    prompts = ["q one\nA. x", "q two", "q one\nA. y", "q three", "q four", "q five"]
    folds = fold_of(prompts, 3, seed=0)
    assert folds[0] == folds[2]
    assert set(folds) == {0, 1, 2}


def test_embedding_cache_encodes_once(tmp_path: Path) -> None:
    class Counting(WordEncoder):
        count = 0

        def encode(self, texts: object) -> np.ndarray:
            self.count += len(texts)  # type: ignore[arg-type]
            return super().encode(texts)  # type: ignore[arg-type]

    encoder = Counting()
    done: list[int] = []
    first = embed_all(encoder, ["a b", "c", "a b"], EmbeddingCache(tmp_path, "f"), done.append)
    again = embed_all(encoder, ["c", "a b"], EmbeddingCache(tmp_path, "f"), done.append)
    assert encoder.count == 2
    assert sum(done) == 5
    assert np.array_equal(first[[1, 0]], again)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors-f.npz"]


def write_data(path: Path, count: int) -> Path:
    rows = synthetic_rows(count, seed=1)
    lines = [
        {
            "id": row.id,
            "source": row.source,
            "task": row.task,
            "prompt": row.prompt,
            "outcomes": {name: {"score": o.score} for name, o in row.outcomes.items()},
        }
        for row in rows
    ]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def test_the_command(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.jsonl", 60)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--cache", str(tmp_path)]
    done = CliRunner().invoke(cli.command, [*arguments, "--json", "--models", "small,large"])
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout)
    assert report["manifest"]["models"] == ["large", "small"]
    assert load_artifact(tmp_path / "out").models == ("large", "small")
    assert report["manifest"]["provenance"]["data"][0]["file"] == "data.jsonl"
    assert report["test"] is None, "9 prompts are too few to score"
    table = CliRunner().invoke(cli.command, arguments)
    assert table.exit_code == 0
    assert "3 models" in table.stdout
    assert "No source has enough prompts" in table.stdout


def test_training_and_eval_tell_the_same_figures(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.jsonl", 400)
    out = tmp_path / "out"
    common = ["--data", str(data), "--cache", str(tmp_path), "--json"]
    trained = CliRunner().invoke(cli.command, [*common, "--out", str(out), "--test-share", "0.3"])
    scored = CliRunner().invoke(
        eval_cli.command, [*common, "--router", str(out), "--robustness", "0"]
    )
    assert (trained.exit_code, scored.exit_code) == (0, 0), trained.output + scored.output
    test, told = orjson.loads(trained.stdout)["test"], orjson.loads(scored.stdout)
    assert test["sources"] == told["sources"]
    (source,) = test["sources"]
    assert source["rows"] + sum(source["left_out"].values()) == 400
    shown = CliRunner().invoke(
        cli.command, [*common[:-1], "--out", str(out), "--test-share", "0.3"]
    )
    assert "On prompts kept out of training" in shown.stdout


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.jsonl", 5)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--cache", str(tmp_path)]
    done = CliRunner().invoke(cli.command, arguments)
    assert done.exit_code == 2
    assert "rows to train on" in done.stderr
    assert not (tmp_path / "out").exists()
