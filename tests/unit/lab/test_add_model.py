"""A model joins a trained router, and serving, eval and calibrate take it as one of its own."""

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from app import compiling, opened
from app.cli import add_model as cli
from app.cli import calibrate, models
from app.cli import eval as eval_cli
from app.config.load import loads
from app.errors import ArtifactError, DataError
from app.lab.outcomes import build_table
from app.lab.synthetic import (
    ABILITIES,
    TOPICS,
    WordEncoder,
    synthetic_rows,
    train_synthetic,
    true_quality,
)
from app.routing.artifact import Artifact, load_artifact
from app.routing.estimators.base import Candidate, Query

NAME = "lawyer-2.1"
# As able as `medium` over all, but good where it is not.
ODD = {"sums": 0.75, "proofs": 0.15, "letters": 0.45, "law": 0.85}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows `small`, `medium` and `large`, and has not seen the rows of `write`."""
    out = tmp_path_factory.mktemp("join") / "router"
    train_synthetic(build_table(synthetic_rows(900, seed=1)), out)
    return out


@pytest.fixture
def router(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "router"))


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of the synthetic world, in the place of the shipped one."""
    monkeypatch.setattr("app.routing.encoder.onnx.OnnxEncoder", lambda _: WordEncoder())
    monkeypatch.setattr(opened.Opened, "encoder", lambda *_: WordEncoder())


def write(path: Path, count: int, seed: int = 21, source: str = "fresh", name: str = NAME) -> Path:
    """Prompts with scores of the known models and of one more, whose answers are 90 tokens."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in synthetic_rows(count, seed=seed, source=source):
        outcomes = {model: {"score": o.score} for model, o in row.outcomes.items()}
        score = float(rng.random() < ODD[row.task])
        outcomes[name] = {"score": score, "output_tokens": 300}  # type: ignore[dict-item]
        lines.append({"id": row.id, "source": source, "task": row.task, "prompt": row.prompt,
                      "outcomes": outcomes})  # fmt: skip
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def run(router: Path, data: Path, *more: str, name: str = NAME) -> Result:
    arguments = ["--router", str(router), "--outcomes", str(data), "--cache", str(data.parent)]
    return CliRunner().invoke(cli.command, [*arguments, "--model", name, *more])


def joined(router: Path, tmp_path: Path, count: int = 200) -> Path:
    done = run(router, write(tmp_path / "new.jsonl", count), "--out", str(router))
    assert done.exit_code == 0, done.output
    return router


def error_against_truth(artifact: Artifact, candidate: Candidate) -> float:
    """Root mean square over fresh prompts."""
    estimator = artifact.estimator([candidate, Candidate("large")])
    rows = synthetic_rows(300, seed=99)
    vectors = WordEncoder().encode([row.prompt for row in rows])
    off = [
        estimator.estimate(Query(row.prompt, vector)).quality[0] - ODD[row.task]
        for row, vector in zip(rows, vectors, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(off))))


def test_it_is_predicted_better_than_any_model_it_is_like(router: Path, tmp_path: Path) -> None:
    artifact = load_artifact(joined(router, tmp_path))
    best = min(error_against_truth(artifact, Candidate("x", like=name)) for name in ABILITIES)
    mean = float(np.sqrt(np.mean([(q - np.mean([*ODD.values()])) ** 2 for q in ODD.values()])))
    own = error_against_truth(artifact, Candidate(NAME))
    assert own < min(0.7 * best, 0.7 * mean), (own, best, mean)


def test_others_are_predicted_as_before(router: Path, tmp_path: Path, trained: Path) -> None:
    before, after = load_artifact(trained), load_artifact(joined(router, tmp_path))
    names = [Candidate("small"), Candidate("large"), Candidate("y", quality=0.4)]
    query = Query("prove lemma", WordEncoder().encode(["prove lemma"])[0])
    expected = before.estimator(names).estimate(query)
    found = after.estimator([names[0], Candidate(NAME), *names[1:]]).estimate(query)
    for old, new in ((expected.quality, found.quality), (expected.support, found.support)):
        np.testing.assert_allclose(np.delete(new, 1), old, rtol=1e-5)
    assert after.estimator(names).estimate(query).quality.tolist() == expected.quality.tolist()


def test_it_has_standing_support_and_length(router: Path, tmp_path: Path) -> None:
    artifact = load_artifact(joined(router, tmp_path))
    candidates = [Candidate(NAME), Candidate("x", like=NAME), Candidate("large")]
    estimator = artifact.estimator(candidates)
    near = estimator.estimate(Query("", WordEncoder().encode(["court tort duty clause"])[0]))
    far = estimator.estimate(Query("", WordEncoder().encode(["bonjour le monde"])[0]))
    alone = estimator.estimate(Query("", None))
    assert far.novelty > 0.5
    assert near.quality[0] == near.quality[1]
    assert far.support[0] < near.support[0] < near.support[2]
    assert near.support[1] < near.support[0]
    assert alone.support.tolist() == [8.0, 5.0, 8.0]
    assert alone.output_tokens[0] > 1.5 * alone.output_tokens[2]
    (neighbour,) = estimator.neighbours(Query("", WordEncoder().encode(["court"])[0]), 1)
    assert set(neighbour.scores) <= {"large"}


def test_files_are_consistent(router: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "new.jsonl", 200)
    done = run(router, data, "--out", str(tmp_path / "deep" / "copy"), "--json")
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout)["joined"]
    assert report["prompts"] == 200
    assert report["data"][0]["file"] == "new.jsonl"
    assert report["fitted"]["cross_validated"] < report["fitted"]["mean_alone"]
    assert report["mean_predicted"] == pytest.approx(report["mean_score"], abs=0.03)
    assert load_artifact(router).joined is None
    copy = load_artifact(tmp_path / "deep" / "copy")
    copy.verify()
    assert [*copy.joined.models] == [NAME] if copy.joined else False
    (copy.directory / "joined-heads.npy").unlink()
    with pytest.raises(ArtifactError, match=r"joined-heads\.npy is missing"):
        load_artifact(copy.directory)
    assert {path.name for path in tmp_path.iterdir()} >= {"router", "deep"}
    assert not list(tmp_path.rglob(".copy*"))


def test_it_is_found_by_any_spelling_and_listed(router: Path, tmp_path: Path) -> None:
    joined(router, tmp_path)
    artifact = load_artifact(router)
    assert artifact.knows("acme/Lawyer-2_1@host") == NAME
    listed = CliRunner().invoke(models.command, ["--router", str(router)])
    assert f"{NAME}  (joined 20" in listed.output
    listed = CliRunner().invoke(models.command, ["--router", str(router), "--json"])
    assert orjson.loads(listed.stdout) == ["large", "medium", "small", NAME]


def test_a_route_takes_it(router: Path, tmp_path: Path) -> None:
    joined(router, tmp_path)
    compiled = compiling.compile_config(
        loads(f"""
upstreams: {{u: {{kind: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models:
  Lawyer-2_1: {{upstream: u, prices: {{input: 1, output: 1}}}}
  other: {{upstream: u, prices: {{input: 1, output: 1}}, like: lawyer-2.1}}
  large: {{upstream: u, prices: {{input: 9, output: 9}}}}
routes:
  auto: {{candidates: [Lawyer-2_1, other, large], router: {router}, objective: {{kind: quality}}}}
""")
    )
    query = Query("court", WordEncoder().encode(["court contract tort"])[0])
    estimate = compiled.names.routes["auto"].estimator.estimate(query)
    assert estimate.quality[0] == estimate.quality[1] > 0.6


def test_eval_and_calibrate_leave_out_what_it_joined_from(router: Path, tmp_path: Path) -> None:
    joined(router, tmp_path)
    files = [write(tmp_path / "new.jsonl", 200), write(tmp_path / "more.jsonl", 500, 22, "more")]
    data = ["--router", str(router), "--data", *map(str, files), "--cache", str(tmp_path)]
    pair = ["--strong", "large", "--weak", NAME]
    done = CliRunner().invoke(eval_cli.command, [*data, *pair, "--robustness", "0", "--json"])
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout)
    assert report["left_out"]["same_prompt"] == 200
    assert [source["source"] for source in report["sources"]] == ["more"]
    done = CliRunner().invoke(calibrate.command, [*data, *pair, "--keep", "0.8", "--splits", "0"])
    assert done.exit_code == 0, done.output
    (promise,) = load_artifact(router).guarantees
    assert (promise.weak, promise.n) == ((NAME,), 500)


def test_promises_stand_but_for_those_of_what_is_replaced(router: Path, tmp_path: Path) -> None:
    data = ["--router", str(router), "--data", str(write(tmp_path / "c.jsonl", 400, 23, "c"))]
    terms = ["--keep", "0.8", "--splits", "0", "--cache", str(tmp_path), "--strong", "large"]
    first = CliRunner().invoke(calibrate.command, [*data, *terms, "--weak", "medium"])
    assert first.exit_code == 0, first.output
    joined(router, tmp_path)
    assert [each.weak for each in load_artifact(router).guarantees] == [("medium",)]
    second = CliRunner().invoke(calibrate.command, [*data, *terms, "--weak", NAME])
    assert second.exit_code == 0, second.output
    again = write(tmp_path / "again.jsonl", 60, seed=24, source="again")
    done = run(router, again, "--out", str(router))
    assert isinstance(done.exception, DataError)
    assert "--replace" in str(done.exception)
    done = run(router, again, "--out", str(router), "--replace")
    assert "1 promises stand as before" in done.output
    assert "1 promises were about the model as it was" in done.output
    artifact = load_artifact(router)
    assert [each.weak for each in artifact.guarantees] == [("medium",)]
    assert artifact.joined is not None
    assert artifact.joined.models[NAME].prompts == 60
    artifact.verify()


def test_two_models_join(router: Path, tmp_path: Path) -> None:
    joined(router, tmp_path)
    before = load_artifact(router)
    second = write(tmp_path / "second.jsonl", 100, seed=25, source="second", name="clerk")
    assert run(router, second, "--out", str(router), name="clerk").exit_code == 0
    after = load_artifact(router)
    after.verify()
    query = Query("", WordEncoder().encode(["court tort"])[0])
    both = after.estimator([Candidate("clerk"), Candidate(NAME)]).estimate(query).quality
    alone = before.estimator([Candidate(NAME)]).estimate(query).quality
    assert both[1] == pytest.approx(alone[0], abs=1e-6)
    assert both[0] != both[1]


def test_prompts_it_was_trained_on_do_not_tell_their_own_answers(
    trained: Path, router: Path, tmp_path: Path
) -> None:
    # The rows of seed 1 are those of the training.
    data = write(tmp_path / "rows.jsonl", 200, seed=1, source="synthetic")
    done = run(router, data, "--out", str(router), "--json")
    assert done.exit_code == 0, done.output
    assert error_against_truth(load_artifact(router), Candidate(NAME)) < 0.14


@pytest.mark.parametrize(
    ("count", "name", "message"),
    [
        (40, "layer-2.1", r"no outcomes of `layer-2.1` \(did you mean `lawyer-2.1`"),
        (29, NAME, "29 prompts with a score of lawyer-2.1: at least 30 are needed"),
        (40, "Medium", "`Medium` is medium, on whose outcomes the router was trained"),
    ],
)
def test_what_cannot_join_is_told_why(
    router: Path, tmp_path: Path, count: int, name: str, message: str
) -> None:
    before = (router / "manifest.json").read_bytes()
    done = run(router, write(tmp_path / "f.jsonl", count), "--out", str(router), name=name)
    assert isinstance(done.exception, DataError)
    with pytest.raises(DataError, match=message):
        raise done.exception
    assert (router / "manifest.json").read_bytes() == before


def test_scores_must_differ_and_sources_be_allowed(
    router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "r.jsonl", 40, source="routerarena")
    done = run(router, data, "--out", str(router))
    assert "published for evaluation only" in str(done.exception)
    monkeypatch.setattr(f"{__name__}.ODD", dict.fromkeys(ODD, 1.0))
    done = run(router, write(tmp_path / "ones.jsonl", 40), "--out", str(router))
    assert "all 40 scores of lawyer-2.1 are 1" in str(done.exception)


def test_a_damaged_entry_is_refused(router: Path, tmp_path: Path) -> None:
    joined(router, tmp_path)
    manifest = orjson.loads((router / "manifest.json").read_bytes())
    manifest["joined"][0]["weights"] = {"nobody": 1.0}
    (router / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"unknown parts \['nobody'\]"):
        load_artifact(router)
    del manifest["joined"][0]["bias"]
    (router / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"Field required at bias; join the model again"):
        load_artifact(router)


def test_the_truth_of_the_new_model_is_unlike_the_known_ones() -> None:
    # Else the first test would show nothing.
    for model in ABILITIES:
        assert max(abs(true_quality(model, topic) - ODD[topic]) for topic in TOPICS) > 0.2


@pytest.mark.parametrize("score", ["1.5", "-0.1", "NaN"])
def test_a_score_out_of_range_is_told_by_row_and_field(
    router: Path, tmp_path: Path, score: str
) -> None:
    data = write(tmp_path / "scores.jsonl", 40)
    lines = data.read_text().splitlines()
    row = orjson.loads(lines[6])
    row["outcomes"][NAME]["score"] = "here"
    lines[6] = orjson.dumps(row).decode().replace('"here"', score)
    data.write_text("\n".join(lines))
    before = (router / "manifest.json").read_bytes()
    done = run(router, data, "--out", str(router))
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith("scores.jsonl: row 7: ")
    assert "score" in str(done.exception) or score == "NaN", "NaN is no JSON at all"
    assert (router / "manifest.json").read_bytes() == before


def test_another_encoder_is_refused(
    router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WordEncoder, "fingerprint", "another")
    done = run(router, write(tmp_path / "new.jsonl", 40), "--out", str(router))
    assert isinstance(done.exception, ArtifactError)
    assert "was trained with the encoder words" in str(done.exception)


def test_an_empty_file_and_a_router_of_pools_are_refused(router: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    done = run(router, tmp_path / "empty.jsonl", "--out", str(router))
    assert isinstance(done.exception, DataError)
    assert "empty.jsonl" in str(done.exception)
    manifest = orjson.loads((router / "manifest.json").read_bytes())
    manifest["estimator"]["kind"] = "pools"
    (router / "manifest.json").write_bytes(orjson.dumps(manifest))
    done = run(router, write(tmp_path / "new.jsonl", 40), "--out", str(router))
    assert isinstance(done.exception, DataError)
    assert "a model can't join a router of the kind pools" in str(done.exception)
