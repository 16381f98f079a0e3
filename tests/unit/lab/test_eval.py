"""`pointsman eval` on a world whose truth is known: what it finds, what it says, what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from app.cli import eval as cli
from app.errors import DataError
from app.lab.figures import ORACLE, RANDOM, ROUTER, Assessment
from app.lab.fingerprints import prompt_fingerprints, question_fingerprints
from app.lab.measuring import Measurement, MeasureSettings, measure
from app.lab.outcomes import OutcomeTable, build_table
from app.lab.robustness import CHANGES, flip_rates, typos
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows, true_quality
from app.routing.artifact import Artifact, load_artifact
from app.routing.estimators.base import Candidate, Estimate, Query
from app.routing.facts import inspect

COSTS = {"small": 0.0001, "medium": 0.0005, "large": 0.003}


@pytest.fixture
def artifact(router_directory: Path) -> Artifact:
    return load_artifact(router_directory)


def priced(table: OutcomeTable) -> OutcomeTable:
    table.costs_usd[:] = [COSTS[name] for name in table.models]
    return table


@pytest.fixture
def fresh() -> OutcomeTable:
    return priced(build_table(synthetic_rows(200, seed=2, source="new"), merge=False))


def quick(artifact: Any, table: OutcomeTable, **settings: Any) -> Measurement:
    settings = {"robustness": 0, "repeats": 30, **settings}
    return measure(artifact, WordEncoder(), table, MeasureSettings(**settings))


def only(found: Measurement) -> Assessment:
    (source,) = found.sources
    return source


def test_it_finds_the_pair_and_is_better_than_chance(
    artifact: Artifact, fresh: OutcomeTable
) -> None:
    stages: list[str] = []

    def stage(name: str, total: int) -> Any:
        stages.append(name)
        return lambda done: None

    found = measure(
        artifact, WordEncoder(), fresh, MeasureSettings(robustness=10, repeats=30), stage=stage
    )
    source = only(found)
    trial = source.trial
    assert (trial.models[trial.strong], trial.models[trial.weak]) == ("large", "small")
    assert len(trial) == 200
    apgr = {m.name: m.ranking["apgr"].value for m in source.methods if m.ranking}
    assert apgr[RANDOM] < apgr[ROUTER] < apgr[ORACLE]
    assert {"length", "task mean"} <= set(apgr)
    told = found.as_dict()
    assert told["sources"][0]["baselines"] == {"learned_from_rows": 200, "crossfitted": True}
    assert {"never", "always", "when_unsure"} == set(told["sources"][0]["two_speed"])
    assert told["sources"][0]["robustness"]["prompts"] == 10
    assert "new: bootstrapping" in stages


def test_a_source_that_cannot_be_scored_is_told(artifact: Artifact, fresh: OutcomeTable) -> None:
    rows = [*synthetic_rows(60, seed=2, source="new"), *synthetic_rows(5, seed=3, source="few")]
    found = quick(artifact, build_table(rows, merge=False))
    assert [source.trial.source for source in found.sources] == ["new"]
    assert found.skipped == {"few": "5 new prompts; at least 30 are needed"}
    with pytest.raises(DataError, match="no source can be scored: few: 5 new prompts"):
        quick(artifact, build_table(synthetic_rows(5, seed=3, source="few"), merge=False))


def test_pool_and_pair_can_be_named(artifact: Artifact, fresh: OutcomeTable) -> None:
    pair = only(quick(artifact, fresh, strong="medium", weak="Small")).trial
    assert pair.models == ("medium", "small")
    limited = only(quick(artifact, fresh, models=["large", "medium"])).trial
    assert limited.models == ("large", "medium")
    both = only(quick(artifact, fresh, strong="large", weak="small", models=["medium"])).trial
    assert both.models == ("large", "small", "medium")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strong": "large"}, "belong together"),
        ({"strong": "large", "weak": "Large"}, "the same model: large"),
        ({"models": ["large", "huge"]}, "the router has no outcomes of: huge"),
    ],
)
def test_models_that_make_no_sense_are_refused(
    artifact: Artifact, fresh: OutcomeTable, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        quick(artifact, fresh, **settings)


def test_a_model_that_the_files_lack_is_named(artifact: Artifact) -> None:
    rows = synthetic_rows(60, seed=2, models=("small", "large"), source="new")
    with pytest.raises(DataError, match="the files have no outcomes of: medium"):
        quick(artifact, build_table(rows, merge=False), models=["medium", "large"])


def test_a_limit_draws_by_seed(artifact: Artifact, fresh: OutcomeTable) -> None:
    first, again, other = (
        only(quick(artifact, fresh, limit=50, seed=seed)).trial for seed in (1, 1, 2)
    )
    assert len(first) == 50
    assert first.prompts == again.prompts != other.prompts
    assert first.left_out["over_limit"] == 150


@dataclass
class WordsRouter:
    """The least a router is: it knows the truth by vector, and half of it by words."""

    directory: Path
    manifest: Mapping[str, Any]
    models: tuple[str, ...] = ("large", "medium", "small")
    encoder_fingerprint: str = WordEncoder.fingerprint
    reads_text: bool = True

    def knows(self, name: str) -> str | None:
        return name if name in self.models else None

    def estimator(self, candidates: Sequence[Candidate]) -> "WordsRouter":
        self.candidates = tuple(candidate.name for candidate in candidates)
        return self

    def estimate(self, query: Query) -> Estimate:
        assert query.text
        topic = next(name for name, (_, words) in TOPICS.items() if query.text.split()[0] in words)
        quality = np.array([true_quality(name, topic) for name in self.candidates])
        if query.vector is None and len(query.text) % 2:
            quality[:] = 0.5
        count = np.full(len(quality), 9.0)
        return Estimate(self.candidates, quality, count, count, 0.0)


def test_a_router_that_reads_text_is_measured_at_both_speeds(
    fresh: OutcomeTable, tmp_path: Path
) -> None:
    known = [fresh.prompts[0], "something else"]
    np.save(tmp_path / "prompts.npy", np.unique(prompt_fingerprints(known)))
    np.save(tmp_path / "questions.npy", np.unique(question_fingerprints(known)))
    source = only(quick(WordsRouter(tmp_path, {}), fresh))
    assert len(source.trial) == 199
    assert source.trial.left_out["same_prompt"] == 1
    speeds = source.extra["two_speed"]
    assert speeds["never"]["apgr"] < speeds["always"]["apgr"]
    assert speeds["always"]["apgr"] == pytest.approx(source.methods[0].ranking["apgr"].value)


def test_a_system_prompt_changes_no_decision(artifact: Artifact, fresh: OutcomeTable) -> None:
    trial = only(quick(artifact, fresh)).trial
    rates = flip_rates(artifact, WordEncoder(), trial, 40, seed=0)
    assert list(rates) == list(CHANGES)
    assert rates["system prompt"] == 0.0
    assert rates["case"] > 0.0  # The word encoder takes capitals for other words.
    assert all(0.0 <= rate <= 1.0 for rate in rates.values())
    assert rates == flip_rates(artifact, WordEncoder(), trial, 40, seed=0)


def test_rewording_keeps_the_question() -> None:
    rng = np.random.default_rng(0)
    prompt = "add the {price} of apples."
    said = {name: inspect(change(prompt, rng)).instruction for name, change in CHANGES.items()}
    assert said["system prompt"] == prompt
    assert said["case"].lower() == prompt
    assert prompt in said["paraphrase"]
    assert said["padding"].startswith(prompt)
    assert said["typos"] != prompt
    assert abs(len(typos("a" * 200, rng)) - 200) <= 6
    assert typos("123", rng) == "123"


def test_the_report_needs_nothing_from_elsewhere(
    artifact: Artifact, fresh: OutcomeTable, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from app.lab.report import write_report

    rows = synthetic_rows(40, seed=2, source="<b>new/1")
    found = quick(artifact, priced(build_table(rows, merge=False)), robustness=5)
    file = tmp_path / "out" / "report.html"
    written = write_report(file, found, artifact.manifest, title="<words>")
    page = file.read_text()
    assert "&lt;words&gt;" in page
    assert "&lt;b&gt;new/1" in page
    assert not any(word in page for word in ("http", "<script", "<b>new", "url("))
    assert page.count("data:image/png;base64,") == 8
    pictures = sorted(path.name for path in file.parent.glob("*.png"))
    kinds = ("cost", "reliability", "robustness", "share")
    assert pictures == [f"report-b-new-1-{kind}.png" for kind in kinds]
    assert {path.name for path in written} == {file.name, *pictures}
    again = tmp_path / "again.html"
    write_report(again, found, artifact.manifest, title="<words>")
    assert again.read_text() == page


def write_outcomes(path: Path, count: int, source: str) -> Path:
    lines = [
        {
            "id": row.id,
            "source": row.source,
            "task": row.task,
            "prompt": row.prompt,
            "outcomes": {
                name: {"score": o.score, "cost_usd": COSTS[name]}
                for name, o in row.outcomes.items()
            },
        }
        for row in synthetic_rows(count, seed=2, source=source)
    ]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


@pytest.fixture
def arguments(
    router_directory: Path, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setattr("app.cli.lab.open_router", lambda name, encoder: (artifact, WordEncoder()))
    data = write_outcomes(tmp_path / "data.jsonl", 80, "new")
    return ["--router", str(router_directory), "--data", str(data), "--cache", str(tmp_path)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command, arguments)


def test_the_command_tells_machines(arguments: list[str], artifact: Artifact) -> None:
    done = run(*arguments, "--robustness", "5", "--json")
    assert done.exit_code == 0, done.output
    told = orjson.loads(done.stdout)
    assert (told["router"], told["seed"]) == (str(artifact.directory), 0)
    (source,) = told["sources"]
    assert source["rows"] == 80
    assert {m["name"] for m in source["methods"]} >= {ROUTER, RANDOM, "task mean", ORACLE}


def test_the_command_tells_people(arguments: list[str]) -> None:
    shown = run(*arguments, "--robustness", "5", "--strong", "large", "--weak", "medium")
    assert shown.exit_code == 0, shown.output
    for words in ("Ranking: strong or weak", "Money: the pair", "Decisions that flip", "Left out:"):
        assert words in shown.stdout
    assert "Money: 3 models" in run(*arguments, "--robustness", "0").stdout


def test_the_command_writes_a_report(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run(*arguments, "--robustness", "0", "--report", str(tmp_path / "r.html"), "--json")
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "r.html") in orjson.loads(done.stdout)["report"]


def test_without_matplotlib_the_extra_is_named_at_once(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    done = run(*arguments, "--report", str(tmp_path / "r.html"))
    assert done.exit_code == 2
    assert "pointsman[lab]" in done.stderr
    assert not (tmp_path / "r.html").exists()


def test_mistakes_are_messages(arguments: list[str]) -> None:
    lone = run(*arguments, "--strong", "large")
    assert lone.exit_code == 2
    assert "together" in lone.stderr
    unknown = run(*arguments, "--models", "large,huge")
    assert "the router has no outcomes of: huge" in unknown.stderr


def test_a_foreign_encoder_is_refused(router_directory: Path, tmp_path: Path) -> None:
    data = write_outcomes(tmp_path / "data.jsonl", 40, "new")
    done = run("--router", str(router_directory), "--data", str(data))
    assert done.exit_code == 2
    assert "was trained with the encoder" in done.stderr
