"""A promise from the command to a route that keeps it, and what `check` says without one."""

import shutil
from collections.abc import Collection
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from app import compiling, opened
from app.cli import calibrate as cli
from app.config.load import loads
from app.errors import ConfigError, DataError
from app.lab.outcomes import OutcomeTable
from app.lab.synthetic import WordEncoder, synthetic_rows, train_synthetic
from app.routing.artifact import load_artifact
from app.routing.estimators.base import Candidate, Query
from app.routing.guarantee import Guarantee
from app.routing.promise import PROMISES_FILE


@pytest.fixture
def router(router_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(router_directory, tmp_path / "router"))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of the synthetic world, in the place of the shipped one."""
    monkeypatch.setattr("app.routing.encoder.onnx.OnnxEncoder", lambda _: WordEncoder())
    monkeypatch.setattr(opened.Opened, "encoder", lambda *_: WordEncoder())


def write(path: Path, count: int, seed: int, wrong: Collection[str] = ()) -> Path:
    """Fresh rows; the models in `wrong` get every one of them wrong."""
    lines = [
        {
            "id": row.id, "source": row.source, "task": row.task, "prompt": row.prompt,
            "outcomes": {
                name: {"score": 0.0 if name in wrong else o.score}
                for name, o in row.outcomes.items()
            },
        }
        for row in synthetic_rows(count, seed=seed, source="fresh")
    ]  # fmt: skip
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def run(router: Path, data: Path, *more: str) -> Result:
    arguments = ["--router", str(router), "--data", str(data), "--cache", str(data.parent)]
    models = ["--strong", "large", "--weak", "small,medium"]
    return CliRunner().invoke(cli.command, [*arguments, *models, "--keep", "0.9", *more])


@pytest.mark.usefixtures("words")
def test_promises_join_and_repeat(router: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "fresh.jsonl", 600, seed=11)
    first = run(router, data, "--splits", "20", "--json")
    assert first.exit_code == 0, first.output
    made = orjson.loads(first.stdout)["guarantee"]
    assert made["weak"] == ["small", "medium"]
    again = run(router, data, "--splits", "20", "--json")
    assert orjson.loads(again.stdout)["guarantee"] == made
    table = run(router, data, "--splits", "0", "--delta", "0.2")
    assert "Mean quality is at least 90.0% of large's" in " ".join(table.stdout.split())
    assert [each.delta for each in load_artifact(router).guarantees] == [0.1, 0.2]
    assert not list(router.glob("*.tmp"))


@pytest.mark.usefixtures("words")
def test_too_few_rows_are_told_how_many_it_takes(router: Path, tmp_path: Path) -> None:
    done = run(router, write(tmp_path / "few.jsonl", 12, seed=13, wrong={"small", "medium"}))
    assert isinstance(done.exception, DataError)
    assert "fewer than 27 can't" in str(done.exception)
    # What it takes is guessed from these twelve, if they allow it.
    told = ("too few to tell how many more it takes", "like these are needed, for a first")
    assert any(words in str(done.exception) for words in told)
    done = run(router, write(tmp_path / "some.jsonl", 150, seed=13), "--bound", "bernstein")
    assert "like these are needed, for a first" in str(done.exception)
    assert not (router / PROMISES_FILE).exists()


# --- a route that keeps it -------------------------------------------------------------------


def config(router: Path | str, objective: str, candidates: str = "[tiny, medium, big]") -> str:
    return f"""
upstreams: {{u: {{kind: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models:
  tiny: {{upstream: u, prices: {{input: 1, output: 1}}, like: small}}
  medium: {{upstream: u, prices: {{input: 2, output: 2}}}}
  big: {{upstream: u, prices: {{input: 9, output: 9}}, like: large}}
  odd: {{upstream: u, prices: {{input: 9, output: 9}}, quality: 0.5}}
routes:
  auto:
    candidates: {candidates}
    router: {router}
    objective: {objective}
"""


@pytest.fixture
def promised(router: Path, tmp_path: Path, words: None) -> Path:
    done = run(router, write(tmp_path / "fresh.jsonl", 500, seed=15), "--splits", "0")
    assert done.exit_code == 0, done.output
    return router


def test_check_binds_the_promise(promised: Path) -> None:
    compiled = compiling.compile_config(loads(config(promised, "{kind: guarantee, keep: 0.9}")))
    route = compiled.names.routes["auto"]
    assert isinstance(route.objective, Guarantee)
    assert (route.objective.strong, route.objective.weak) == ("big", ("tiny", "medium"))
    assert route.encode == "always"
    # What is `like` a model counts as that model here: its predictions are the calibrated ones.
    prompt = "prove lemma bounded compact"
    query = Query(prompt, WordEncoder().encode([prompt])[0])
    names = [Candidate(name) for name in ("small", "medium", "large")]
    expected = load_artifact(promised).estimator(names).estimate(query)
    assert route.estimator.estimate(query).quality.tolist() == expected.quality.tolist()


@pytest.mark.parametrize(
    ("objective", "candidates", "message"),
    [
        ("{kind: guarantee, keep: 0.95}", "[tiny, medium, big]", "--keep 0.95 --delta 0.1"),
        ("{kind: guarantee, keep: 0.9, delta: 0.01}", "[tiny, medium, big]", "--delta 0.01"),
        ("{kind: guarantee, keep: 0.9}", "[tiny, big]", "--strong large --weak small "),
        ("{kind: guarantee, keep: 0.9}", "[big]", "no other candidate than `big`"),
        ("{kind: guarantee, keep: 0.9}", "[tiny, medium, odd]", "no guarantee can cover `odd`"),
    ],
)
def test_check_says_what_to_run(
    promised: Path, objective: str, candidates: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compiling.compile_config(loads(config(promised, objective, candidates)))
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("routes.auto.objective", 12)
    assert message in problem.message


@pytest.mark.parametrize(
    ("router", "message"),
    [("null", "a guarantee needs a router"), ("nowhere", "cannot read manifest")],
)
def test_check_refuses_a_promise_without_a_router(router: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compiling.compile_config(loads(config(router, "{kind: guarantee}")))


def test_a_promise_is_about_encoded_prompts(promised: Path) -> None:
    text = config(promised, "{kind: guarantee, keep: 0.9}") + "    encode: when-unsure\n"
    with pytest.raises(ConfigError, match="calibrated on vectors"):
        compiling.compile_config(loads(text))


def test_a_promise_does_not_outlive_a_training(promised: Path, table: OutcomeTable) -> None:
    stored = (promised / PROMISES_FILE).read_bytes()
    train_synthetic(table, promised, seed=1)
    (promised / PROMISES_FILE).write_bytes(stored)
    with pytest.raises(ConfigError, match="calibrated with another router"):
        compiling.compile_config(loads(config(promised, "{kind: guarantee, keep: 0.9}")))
    # Routes that promise nothing do not mind.
    compiling.compile_config(loads(config(promised, "{kind: quality}")))


@pytest.mark.parametrize(
    "objective",
    [
        "{kind: budget}",
        "{kind: budget, usd_per_day: 5, usd_per_1k_requests: 1}",
        "{kind: budget, usd_per_day: 0}",
        "{kind: guarantee, keep: 1.5}",
        "{kind: guarantee, delta: 0}",
        "{kind: guarantee, strong: bigg}",
    ],
)
def test_objectives_that_mean_nothing(objective: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(config("router", objective))
    assert caught.value.problems[0].path.startswith("routes.auto.objective")
