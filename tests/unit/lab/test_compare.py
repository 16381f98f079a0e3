"""Nested cross-validation on a world whose truth is known: nothing tested is learned from, a kind
that knows more scores higher, and every figure can fail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from app.cli import compare as cli
from app.errors import DataError
from app.lab.baselines import LENGTH, TASK_MEAN
from app.lab.comparing import CompareSettings, Comparison, compare
from app.lab.comparison import RESAMPLING_SEED, WITHIN, Averaged, averaged, within_folds
from app.lab.contestants import Contestant, choose_kinds, routers
from app.lab.figures import ORACLE, RANDOM
from app.lab.metrics import exact_curve
from app.lab.outcomes import OutcomeRow, OutcomeTable, normalise, question
from app.lab.resampling import Resamples, interval, resampled_apgr
from app.lab.synthetic import TOPICS, WordEncoder, synthetic_rows
from app.lab.train import TrainSettings
from app.routing.estimators.base import Candidate, Estimate, Query
from app.routing.estimators.kinds import DEFAULT_KIND, KINDS

COSTS = {"small": 0.0001, "medium": 0.0005, "large": 0.003}
KIND = DEFAULT_KIND


def priced(rows: Sequence[OutcomeRow]) -> list[OutcomeRow]:
    return [
        replace(row, outcomes={m: replace(o, cost_usd=COSTS[m]) for m, o in row.outcomes.items()})
        for row in rows
    ]


@pytest.fixture(scope="module")
def rows() -> list[OutcomeRow]:
    return priced(synthetic_rows(240, seed=1))


@dataclass
class Knowing:
    """The least a router is. It predicts each model's true score, moved towards a coin's by
    `noise`; by words alone it knows nothing.
    """

    truth: Mapping[str, Mapping[str, float]]
    noise: float
    reads_text: bool
    asked: set[str]

    def estimator(self, candidates: Sequence[Candidate]) -> "Knowing":
        self.candidates = tuple(candidate.name for candidate in candidates)
        return self

    def estimate(self, query: Query) -> Estimate:
        self.asked.add(query.text)
        rng = np.random.default_rng(sum(query.text.encode()))
        known = np.array([self.truth[query.text][name] for name in self.candidates])
        coin = rng.random(len(known))
        part = 1.0 if query.vector is None else self.noise
        quality = (1 - part) * known + part * coin
        many = np.full(len(known), 50.0)
        return Estimate(self.candidates, quality, many, many, 0.0)


@dataclass
class Spy:
    """Trains nothing: hands out routers that know, and keeps what they might have learned from and
    what they were asked.
    """

    rows: Sequence[OutcomeRow]
    noise: Mapping[str, float]
    reads_text: bool = False
    tables: list[OutcomeTable] = field(default_factory=list)
    settings: list[TrainSettings] = field(default_factory=list)
    tested: list[set[str]] = field(default_factory=list)

    def __call__(
        self, table: OutcomeTable, vectors: Any, kinds: Sequence[str], settings: Any, encoder: Any
    ) -> Iterator[Contestant]:
        assert np.array_equal(vectors, WordEncoder().encode(table.prompts))
        self.tables.append(table)
        self.settings.append(settings)
        self.tested.append(set())
        truth = {
            row.prompt: {name: outcome.score for name, outcome in row.outcomes.items()}
            for row in self.rows
        }
        for kind in kinds:
            knowing: Any = Knowing(truth, self.noise[kind], self.reads_text, self.tested[-1])
            yield Contestant(kind, knowing, 1.5)


def run(rows: Sequence[OutcomeRow], spy: Any = None, **settings: Any) -> Comparison:
    asked = CompareSettings(**{"kinds": (KIND,), "folds": 3, "seeds": 2, "repeats": 40, **settings})
    return compare(rows, WordEncoder(), asked, train_routers=spy or routers)


def test_real_routers_are_trained_and_stand_where_they_should(rows: list[OutcomeRow]) -> None:
    stages: list[tuple[str, int]] = []
    steps: list[int] = []

    def stage(name: str, total: int) -> Any:
        stages.append((name, total))
        return steps.append

    asked = CompareSettings((KIND,), folds=3, seeds=2, repeats=40)
    found = compare(rows, WordEncoder(), asked, stage=stage)
    (source,) = found.sources
    apgr = {each.name: each.figures["apgr"] for each in source.contenders if "apgr" in each.figures}
    assert list(apgr) == [KIND, LENGTH, TASK_MEAN, RANDOM, ORACLE]
    assert apgr[RANDOM].value == pytest.approx(0.5)
    assert apgr[RANDOM].value < apgr[KIND].value < apgr[ORACLE].value
    held = apgr[KIND].interval
    assert held is not None
    assert held[0] < apgr[KIND].value < held[1]
    assert len(set(apgr[KIND].by_seed)) == 2, "another seed, other folds and another training"
    assert apgr[KIND].value == pytest.approx(np.mean(apgr[KIND].by_seed))
    assert apgr[KIND].spread == pytest.approx(np.std(apgr[KIND].by_seed, ddof=1))
    within = source.contender(KIND).figures[WITHIN]
    assert within.interval is not None
    assert within.interval[0] < within.value < within.interval[1]
    assert within.value == pytest.approx(apgr[KIND].value, abs=0.1)
    assert source.contender(KIND).calibration["small"]["auroc"].value > 0.6
    assert found.fit_seconds[KIND] > 0
    assert source.contender(KIND).microseconds is not None
    assert sum(steps) == sum(total for _, total in stages)


def test_knowing_more_scores_higher_and_the_difference_is_paired(rows: list[OutcomeRow]) -> None:
    spy = Spy(rows, {"sharp": 0.3, "dull": 0.9, "blind": 1.0})
    found = run(rows, spy, kinds=("dull", "sharp", "blind"))
    (source,) = found.sources
    sharp, dull, blind = (source.contender(name) for name in ("sharp", "dull", "blind"))
    assert sharp.figures["apgr"].value > dull.figures["apgr"].value > blind.figures["apgr"].value
    assert sharp.figures["aiq"].value > blind.figures["aiq"].value
    assert sharp.calibration["small"]["auroc"].value > blind.calibration["small"]["auroc"].value
    ahead = sharp.against["dull"]["apgr"]
    assert ahead.value == pytest.approx(sharp.figures["apgr"].value - dull.figures["apgr"].value)
    assert ahead.interval is not None
    assert ahead.interval[0] > 0
    assert set(dull.against) == {TASK_MEAN}, "the first is what the others are compared with"
    assert set(sharp.against) == {"dull", TASK_MEAN}
    assert found.fit_seconds == {"dull": 1.5, "sharp": 1.5, "blind": 1.5}


def test_nothing_tested_is_learned_from(rows: list[OutcomeRow]) -> None:
    """Neither by prompt nor by question, in whatever source it lies. An option after a space is
    part of the question, one on a line of its own is not: the prompts are equal all the same.
    """
    twins = [
        replace(row, id=f"{kind}/{row.id}", source=kind, prompt=f"{row.prompt}{options}")
        for kind, options in (
            ("choice", "\na. yes\nb. no"),
            ("flat", " a. yes"),
            ("lined", "\na. yes"),
        )
        for row in rows[:90]
    ]
    everything = [*rows, *twins]
    spy = Spy(everything, {KIND: 0.5})
    run(everything, spy, seeds=1)
    assert len(spy.tables) == len(spy.tested) == 3
    for table, tested in zip(spy.tables, spy.tested, strict=True):
        assert tested
        for key in (normalise, question):
            assert not {key(p) for p in table.prompts} & {key(p) for p in tested}
    assert set().union(*spy.tested) == {row.prompt for row in everything}, "all are tested"
    assert sum(len(tested) for tested in spy.tested) == len(everything), "and once"


def test_seeds_change_folds_and_training(rows: list[OutcomeRow]) -> None:
    spy, again = Spy(rows, {KIND: 0.5}), Spy(rows, {KIND: 0.5})
    found, same = run(rows, spy), run(rows, again)
    first, second = ({t.prompts for t in spy.tables[at : at + 3]} for at in (0, 3))
    assert not first & second
    assert [settings.seed for settings in spy.settings] == [0, 0, 0, 1, 1, 1]
    assert [t.prompts for t in spy.tables] == [t.prompts for t in again.tables]
    told, repeated = (_timeless(each.as_dict()) for each in (found, same))
    assert orjson.dumps(told) == orjson.dumps(repeated)


def _timeless(told: dict[str, Any]) -> dict[str, Any]:
    for source in told["sources"]:
        for method in source["methods"]:
            del method["microseconds_per_prompt"]
    return told


def test_labels_keep_exactly_so_many_rows_of_the_source(rows: list[OutcomeRow]) -> None:
    other = synthetic_rows(60, seed=2, models=("medium",), source="other")
    spy = Spy([*rows, *other], {KIND: 0.5})
    found = run([*rows, *other], spy, labels=37)
    for table in spy.tables:
        assert table.sources.count("synthetic") == 37
    learned = [table.sources.count("other") for table in spy.tables[:3]]
    assert sum(learned) == 2 * 60, "the other source is whole but for its tested questions"
    assert found.sources[0].fewest_labels == 37
    first, second = ({i for t in spy.tables[at : at + 3] for i in t.ids} for at in (0, 3))
    assert first != second, "drawn by seed"
    with pytest.raises(DataError, match=r"500 labels were asked for.* more than 16\d to learn"):
        run(rows, spy, labels=500)


def test_a_task_left_out_is_not_learned_from_under_any_name(rows: list[OutcomeRow]) -> None:
    renamed = [
        replace(row, id=f"x/{row.id}", source="other", task="all", prompt=f"{row.prompt}\nA. yes")
        for row in rows[:40]
    ]
    namesake = [
        replace(row, id=f"y/{row.id}", source="other", prompt=f"{row.prompt} again")
        for row in rows[40:60]
    ]
    small = {"strong": "large", "weak": "small"}
    others = [
        replace(row, outcomes={"medium": row.outcomes["medium"]}) for row in (*renamed, *namesake)
    ]
    spy = Spy([*rows, *others], {KIND: 0.5})
    found = run([*rows, *others], spy, by_task=True, folds=0, seeds=1, **small)
    assert (found.folds, found.tasks) == (4, 4)
    assert "one task of 4 at a time" in found.left_out
    by_question = {question(row.prompt): row.task for row in rows}
    for table in spy.tables:
        (left_out,) = set(TOPICS) - set(table.tasks)
        known = {by_question.get(question(prompt)) for prompt in table.prompts}
        assert left_out not in known
    grouped = run(rows, Spy(rows, {KIND: 0.5}), by_task=True, folds=2, seeds=1)
    assert (grouped.folds, grouped.tasks) == (2, 4)
    assert "2 groups of 4 tasks" in grouped.left_out


def test_a_pair_is_scored_in_every_source_that_has_both(rows: list[OutcomeRow]) -> None:
    also = priced(synthetic_rows(50, seed=3, models=("small", "large"), source="also"))
    lacks = priced(synthetic_rows(50, seed=4, models=("small", "medium"), source="lacks"))
    everything = [*rows, *also, *lacks]
    found = run(everything, Spy(everything, {KIND: 0.5}), strong="Large", weak="small")
    assert [source.trial.source for source in found.sources] == ["also", "synthetic"]
    assert {source.trial.models for source in found.sources} == {("large", "small")}
    assert found.skipped == {"lacks": "it has no outcomes of large"}


def test_kinds_that_read_text_are_told_at_two_speeds(rows: list[OutcomeRow]) -> None:
    found = run(rows, Spy(rows, {KIND: 0.2}, reads_text=True))
    speeds = found.sources[0].contender(KIND).speeds
    assert speeds is not None
    apgr = found.sources[0].contender(KIND).figures["apgr"].value
    assert speeds["always"] == {"encoded": 1.0, "apgr": pytest.approx(apgr)}
    assert speeds["never"]["apgr"] < 0.7 < speeds["always"]["apgr"]
    halves = [dial for dial in speeds["when_unsure"] if dial["encoded"] == 0.5]
    assert speeds["never"]["apgr"] < halves[0]["apgr"]


def test_the_interval_is_that_of_the_mean_over_seeds() -> None:
    rng = np.random.default_rng(0)
    weak, strong = (rng.random(200) < 0.4).astype(float), (rng.random(200) < 0.8).astype(float)
    gains = [strong - weak + rng.normal(0, 2, 200) for _ in range(3)]
    resamples = Resamples(200, 300, RESAMPLING_SEED)
    drawn = [resampled_apgr(gain, weak, strong, resamples) for gain in gains]
    found = averaged(np.stack([np.concatenate(([each.mean()], each)) for each in drawn]))
    assert found.interval == pytest.approx(interval(np.mean(drawn, axis=0)))
    widths = [high - low for low, high in (interval(each) or (0.0, 0.0) for each in drawn)]
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] < max(widths)
    nowhere = averaged(np.array([[1.0, 1.0], [np.nan, 1.0]]))
    assert np.isnan(nowhere.value)
    assert nowhere.as_dict()["value"] is None
    assert Averaged(1.0, None, (1.0,)).as_dict()["spread"] is None


def test_within_folds_a_level_of_its_own_does_not_count(rows: list[OutcomeRow]) -> None:
    trial = run(rows, Spy(rows, {KIND: 0.5}), seeds=1).sources[0].trial
    folds = np.arange(len(trial)) % 4
    rng = np.random.default_rng(0)
    gain = trial.strong_scores - trial.weak_scores + rng.normal(0, 1, len(trial))
    resamples = Resamples(len(trial), 60, 0)
    level = within_folds(gain + 3.0 * folds, folds, trial, resamples)
    assert level == pytest.approx(within_folds(gain, folds, trial, resamples))
    one = np.zeros(len(trial), dtype=np.intp)
    weak, strong = trial.weak_scores, trial.strong_scores
    assert within_folds(gain, one, trial, resamples) == pytest.approx(
        np.append(
            exact_curve(gain, weak, strong).apgr(), resampled_apgr(gain, weak, strong, resamples)
        )
    )
    constant = np.array([(strong - weak)[folds != fold].mean() for fold in range(4)])[folds]
    assert exact_curve(constant, weak, strong).apgr() < 0.5, "thrown together it does harm"
    assert within_folds(constant, folds, trial, resamples) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "1 folds: at least 2"),
        ({"folds": 0}, "0 folds: at least 2"),
        ({"folds": 300}, "240 questions make no 300 folds"),
        ({"strong": "large"}, "belong together"),
        ({"strong": "large", "weak": "Large"}, "the same model: large"),
        ({"models": ["large", "smal"]}, "no outcomes of: smal; did you mean `small`"),
        ({"models": ["large"]}, "no source can be scored: synthetic: 1 of its models"),
    ],
)
def test_what_makes_no_sense_is_refused(
    rows: list[OutcomeRow], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(rows, Spy(rows, {KIND: 0.5}), **settings)


def test_too_few_rows_are_refused() -> None:
    few = synthetic_rows(20, seed=1)
    with pytest.raises(DataError, match="20 new prompts; at least 30"):
        run(few)
    one_task = [replace(row, task="all") for row in synthetic_rows(60, seed=1)]
    with pytest.raises(DataError, match="all scored rows are of all"):
        run(one_task, by_task=True)


def test_kinds_are_chosen_by_name() -> None:
    kinds = ("knn", "text", "stack", "classifier")
    left_out = choose_kinds(None, heads=False, kinds=kinds, default="stack")
    assert left_out[0] == ("stack", "knn", "text")
    assert "encoder tune" in left_out[1]["classifier"]
    assert choose_kinds(["text", "knn", "text"], heads=False, kinds=kinds) == (("text", "knn"), {})
    assert "classifier" in choose_kinds(None, heads=True, kinds=kinds)[0]
    with pytest.raises(DataError, match="no estimator is called stak; did you mean `stack`"):
        choose_kinds(["stak"], heads=False, kinds=kinds)
    with pytest.raises(DataError, match="nothing to compare: classifier"):
        choose_kinds(["classifier"], heads=False, kinds=kinds)


def test_training_knows_the_encoders_directory(rows: list[OutcomeRow], tmp_path: Path) -> None:
    """The classifier takes its heads from there."""
    spy = Spy(rows, {KIND: 0.5})
    run(rows[:120], spy, encoder=tmp_path)
    assert {settings.encoder for settings in spy.settings} == {tmp_path}


@pytest.fixture
def arguments(tmp_path: Path, rows: list[OutcomeRow]) -> list[str]:
    lines = [
        {
            "id": row.id,
            "source": row.source,
            "task": row.task,
            "prompt": row.prompt,
            "outcomes": {
                name: {"score": o.score, "cost_usd": o.cost_usd} for name, o in row.outcomes.items()
            },
        }
        for row in rows[:120]
    ]
    data = tmp_path / "data.jsonl"
    data.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return ["--data", str(data), "--cache", str(tmp_path), "--folds", "2", "--seeds", "2"]


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command, arguments)


def test_the_command_tells_machines_and_people(arguments: list[str]) -> None:
    done = command(*arguments, "--json", "--labels", "50")
    assert done.exit_code == 0, done.output
    told = orjson.loads(done.stdout)
    assert (told["compared_with"], told["seeds"], told["labels"]) == (KIND, [0, 1], 50)
    assert {*told["estimators"], *told["estimators_left_out"]} == set(KINDS)
    assert set(told["estimators_left_out"]) == {"classifier"}, "the encoder has no heads"
    (source,) = told["sources"]
    by_name = {method["name"]: method for method in source["methods"]}
    assert len(by_name[KIND]["figures"]["apgr"]["by_seed"]) == 2
    assert len(by_name[KIND]["against"][TASK_MEAN]["apgr"]["interval"]) == 2
    assert {one["model"] for one in source["singles"]} == {"large", "medium", "small"}
    shown = command(*arguments, "--leave-out-task", "--estimators", KIND)
    assert shown.exit_code == 0, shown.output
    for words in ("2 groups of 4 tasks", "Strong or weak", "to task mean", "trained in"):
        assert words in " ".join(shown.stdout.split())


def test_the_command_writes_a_report(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "r.html"
    done = command(*arguments, "--report", str(page))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r-synthetic-apgr.png").read_bytes().startswith(b"\x89PNG")
    written = page.read_text()
    assert f'<tr class="mine"><td>{KIND}</td>' in written
    assert "http" not in written


def test_mistakes_are_messages(arguments: list[str]) -> None:
    unknown = command(*arguments, "--estimators", f"{KIND}x")
    assert unknown.exit_code == 2
    assert f"did you mean `{KIND}`" in unknown.stderr
    folds = command(*arguments, "--folds", "1")
    assert folds.exit_code == 2
    assert "at least 2 are needed" in folds.stderr
