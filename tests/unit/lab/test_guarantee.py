"""The promise: bounds that hold, a walk that stops at the first failure, and too little refused."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from app.cli import calibrate as cli
from app.errors import DataError
from app.lab import calibrate as lab
from app.lab.bounds import BOUNDS, BoundName, upper_bound
from app.lab.guarantee import Calibration, Terms, calibrate, find_gate, outcome, simulate
from app.lab.outcomes import build_table, split
from app.lab.synthetic import WordEncoder, synthetic_rows
from app.routing.artifact import load_artifact


def population(count: int, seed: int = 0) -> Calibration:
    """Right-or-wrong scores of which the predicted gain tells a part."""
    rng = np.random.default_rng(seed)
    gain = rng.uniform(-0.1, 0.6, count)
    strong = (rng.random(count) < 0.85).astype(np.float64)
    weak = (rng.random(count) < np.clip(0.85 - gain, 0, 1)).astype(np.float64)
    return Calibration(strong, weak[:, None], gain[:, None], np.zeros(count))


@pytest.mark.parametrize("bound", list(BOUNDS))
def test_a_bound_says_no_where_the_mean_is_zero_and_yes_where_it_is_far_below(
    bound: BoundName,
) -> None:
    rng = np.random.default_rng(0)
    fair = rng.choice([-1.0, 1.0], (400, 500))
    below = rng.choice([-1.0, 0.0], (400, 1))
    rejected = BOUNDS[bound](fair, 0.1, -1.0, 1.0).mean()
    # 500 tests at level .1: three standard errors are .04. The normal one is only near its level.
    assert rejected <= 0.14
    assert BOUNDS[bound](below, 0.1, -1.0, 1.0).all()


@pytest.mark.parametrize("bound", ["betting", "bernstein"])
def test_an_upper_bound_lies_between_the_mean_and_zero(bound: BoundName) -> None:
    losses = np.random.default_rng(1).choice([-1.0, 0.5], 2000)
    assert losses.mean() <= upper_bound(bound, losses, 0.1, -1.0, 1.0) < 0


def test_the_gate_keeps_its_promise_in_nine_of_ten_draws() -> None:
    rows = population(1000)
    told = simulate(rows, Terms(0.95, 0.1), splits=200)
    # The bound allows .1; two standard errors of 200 draws are .042.
    assert told.violations <= 0.142
    assert told.cheap_share > 0.1


def test_what_is_found_holds_on_the_rows_and_a_harder_promise_buys_less() -> None:
    rows = population(2000)
    easy, hard = calibrate(rows, Terms(0.9)), calibrate(rows, Terms(0.97))
    assert easy is not None
    assert hard is not None
    assert easy.kept >= 0.9
    assert easy.bound_value <= 0
    assert easy.cheap_share > hard.cheap_share
    assert outcome(rows, None) == (1.0, 0.0)


def test_nothing_is_promised_where_predictions_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = population(300)
    useless = Calibration(rows.strong, rows.cheaper * 0, rng.random((300, 1)), rows.novelty)
    assert find_gate(useless, Terms(0.99)) is None


def write_outcomes(path: Path, count: int) -> Path:
    lines = [
        {
            "id": row.id,
            "source": "new",
            "task": row.task,
            "prompt": row.prompt,
            "outcomes": {name: {"score": o.score} for name, o in row.outcomes.items()},
        }
        for row in synthetic_rows(count, seed=5, source="new")
    ]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def test_the_command_stores_a_promise_that_the_artifact_reads(
    router_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.routing.encoder.onnx.OnnxEncoder", lambda _: WordEncoder())
    data = write_outcomes(tmp_path / "data.jsonl", 1500)
    out = tmp_path / "out"
    arguments = [
        "--router", str(router_directory), "--data", str(data), "--strong", "large",
        "--weak", "medium", "--keep", "0.8", "--splits", "5", "--cache", str(tmp_path),
        "--out", str(out),
    ]  # fmt: skip
    done = CliRunner().invoke(cli.command, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    told = orjson.loads(done.stdout)["guarantee"]
    assert told["n"] == 1500
    assert told["kept"] >= 0.8
    assert told["simulated"]["splits"] == 5
    (stored,) = load_artifact(out).guarantees
    assert (stored.strong, stored.weak, stored.threshold) == (
        "large", ("medium",), told["threshold"],
    )  # fmt: skip
    assert load_artifact(router_directory).guarantees == ()


def test_too_little_data_is_refused_with_what_it_would_take() -> None:
    rows = population(20)
    with pytest.raises(DataError, match=r"20 calibration prompts buy no promise to keep 0\.95"):
        lab.promise(
            rows, lab.Pool("large", ("small",)), Terms(0.95), sources=["new"] * 20, files=[]
        )


def test_rows_trained_on_do_not_count(router_directory: Path) -> None:
    artifact = load_artifact(router_directory)
    known, sealed = split(build_table(synthetic_rows(900, seed=1)), 0.15)
    pool = lab.pool(artifact, "large", ["small"])
    with pytest.raises(DataError, match="no row is new to this router"):
        lab.usable_rows(artifact, known, pool)
    assert len(lab.usable_rows(artifact, sealed, pool)) == len(sealed)
    with pytest.raises(DataError, match="no outcomes of `larg`"):
        lab.pool(artifact, "larg", ["small"])
