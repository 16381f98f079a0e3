"""Which models and prompts are compared, and what simple methods learn for the comparison."""

from collections.abc import Mapping

import numpy as np
import pytest

from app.lab.baselines import learn_baselines
from app.lab.outcomes import Outcome, OutcomeRow, OutcomeTable, build_table
from app.lab.trial import Unscorable, build_trial, choose_pair, choose_pool

Cells = Mapping[str, Outcome]


def table_of(rows: list[Cells], tasks: list[str] | None = None) -> OutcomeTable:
    """Prompts of growing length, in the order given."""
    return build_table(
        [
            OutcomeRow(f"{at:03}", "exam", tasks[at] if tasks else "t", f"p{at} " + "x" * at, cells)
            for at, cells in enumerate(rows)
        ],
        merge=False,
    )


def everyone(score: float = 1.0) -> dict[str, Outcome]:
    return {"large": Outcome(score, cost_usd=5.0), "small": Outcome(score, cost_usd=1.0)}


def all_rows(table: OutcomeTable) -> np.ndarray:
    return np.arange(len(table))


def test_models_that_answered_too_little_are_dropped_and_told() -> None:
    rows = [everyone() for _ in range(40)]
    for at in range(20):
        rows[at]["half"] = Outcome(1.0, cost_usd=1.0)
        rows[at]["free"] = rows[at + 20]["free"] = Outcome(1.0)
    del rows[3]["small"]
    table = table_of(rows)
    pool = choose_pool(table, all_rows(table), table.models)
    assert pool.models == ("large", "small")
    assert pool.dropped == {"half": "answered 50% of the prompts", "free": "no costs"}
    assert (len(pool.rows), pool.incomplete) == (39, 1)
    assert "003" not in {table.ids[row] for row in pool.rows}


def test_a_required_model_is_in_whatever_it_lacks() -> None:
    rows = [everyone() for _ in range(80)]
    for at in range(40):
        rows[at]["half"] = Outcome(1.0)
    table = table_of(rows)
    pool = choose_pool(table, all_rows(table), [], ["large", "half"])
    assert pool.models == ("large", "half")
    assert len(pool.rows) == 40
    trial = build_trial(
        table, pool, source="exam", expected_costs=np.ones((40, 2)), strong="half", weak="large"
    )
    assert (trial.models[trial.strong], trial.priced) == ("half", False)


def test_too_little_is_said() -> None:
    table = table_of([everyone() for _ in range(40)])
    with pytest.raises(Unscorable, match="10 new prompts"):
        choose_pool(table, np.arange(10), table.models)
    with pytest.raises(Unscorable, match="1 of its models can be scored"):
        choose_pool(table, all_rows(table), ["large"])
    sparse = table_of(
        [{**everyone(), **({"rare": Outcome(1.0)} if at < 9 else {})} for at in range(40)]
    )
    with pytest.raises(Unscorable, match="9 new prompts were answered by all of rare, small"):
        choose_pool(sparse, all_rows(sparse), [], ["rare", "small"])
    with pytest.raises(Unscorable, match="no outcomes of gone"):
        choose_pool(table, all_rows(table), [], ["gone", "small"])


@pytest.mark.parametrize(
    ("quality", "costs", "pair"),
    [
        ([0.9, 0.5, 0.6, 0.3], [9.0, 2.0, 3.0, 1.0], (0, 1)),
        ([0.9, 0.5, 0.6, 0.3], [np.nan] * 4, (0, 1)),
        ([0.9, 0.1, 0.3], [9.0, 1.0, 2.0], (0, 2)),
        # The better one may be the cheaper one.
        ([0.6, 0.8], [3.0, 1.0], (1, 0)),
    ],
)
def test_the_pair(quality: list[float], costs: list[float], pair: tuple[int, int]) -> None:
    assert choose_pair(np.array([quality]), np.array([costs])) == pair


def test_simple_methods_learn_from_what_the_router_learned_from() -> None:
    tasks = ["a", "b"] * 30 + ["c"]
    rows = [everyone(1.0 if at % 2 else 0.5) for at in range(61)]
    table = table_of(rows, tasks)
    at = {row_id: row for row, row_id in enumerate(table.ids)}
    trained = np.array([at[f"{n:03}"] for n in range(40)])
    scored = np.array([at["041"], at["042"], at["060"]])
    found = learn_baselines(table, scored, trained, ["large", "small"])
    assert found.as_dict() == {"learned_from_rows": 40, "crossfitted": False}
    assert found.task_mean[:, 0].tolist() == [1.0, 0.5, 0.75]
    assert found.expected_costs == pytest.approx(np.tile([5.0, 1.0], (3, 1)))


def test_no_prompt_is_predicted_from_its_own_outcome() -> None:
    rows = [everyone(float(at % 3 == 0)) for at in range(60)]
    before = table_of(rows)
    rows[7] = {"large": Outcome(1.0, cost_usd=500.0), "small": Outcome(1.0, cost_usd=100.0)}
    after = table_of(rows)
    row = before.ids.index("007")
    none = np.empty(0, dtype=np.intp)
    one, two = (
        learn_baselines(table, all_rows(table), none, ["large", "small"])
        for table in (before, after)
    )
    assert one.crossfitted
    for name in ("length", "task_mean", "expected_costs"):
        assert getattr(one, name)[row].tolist() == getattr(two, name)[row].tolist()
        assert getattr(one, name).tolist() != getattr(two, name).tolist()


def test_length_is_a_line() -> None:
    rows = [{"large": Outcome(1.0), "small": Outcome(1.0 if at < 30 else 0.0)} for at in range(60)]
    table = table_of(rows)
    none = np.empty(0, dtype=np.intp)
    found = learn_baselines(table, all_rows(table), none, ["large", "small"])
    order = np.argsort([len(prompt) for prompt in table.prompts])
    assert found.length[:, 0].tolist() == [1.0] * 60
    assert found.length[order[:10], 1].min() > found.length[order[-10:], 1].max()
    assert np.isnan(found.expected_costs).all()
