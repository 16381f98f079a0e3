"""A model joins a router of any kind: it is predicted from what the kind says of known models, and
those are predicted as before.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.lab.add_model import ask, check_kind, join, rows_of, write_joined
from app.lab.ground import Ground
from app.lab.outcomes import Outcome, build_table
from app.lab.synthetic import ABILITIES, WordEncoder, synthetic_rows
from app.routing.artifact import Artifact, load_artifact
from app.routing.estimators.base import Candidate, Estimate, Query
from app.routing.estimators.kinds import KINDS
from tests.unit.lab.methods.conftest import true_heads

Routed = Callable[[Ground, str], Artifact]
TRUTH = {"sums": 0.75, "proofs": 0.15, "letters": 0.45, "law": 0.85}
"""Of the new model, which no known one is like."""
TEXT = ("text", "stack")


def joined(artifact: Artifact, tmp_path: Path) -> Artifact:
    rng = np.random.default_rng(3)
    rows = [
        replace(row, outcomes={"new": Outcome(float(rng.random() < TRUTH[row.task]), 80.0)})
        for row in synthetic_rows(200, seed=31, source="fresh")
    ]
    table, column = rows_of(build_table(rows), "new")
    vectors = WordEncoder().encode(table.prompts)
    newcomer = join(artifact, table, vectors, ask(artifact, table, vectors), column, ())
    write_joined(artifact, newcomer, tmp_path / "joined")
    return load_artifact(tmp_path / "joined")


def estimates(artifact: Artifact, names: tuple[str, ...], *, words: bool = False) -> list[Estimate]:
    estimator = artifact.estimator([Candidate(name) for name in names])
    prompts = [row.prompt for row in synthetic_rows(150, seed=41)]
    vectors = WordEncoder().encode(prompts)
    return [
        estimator.estimate(Query(prompt, None if words else vector))
        for prompt, vector in zip(prompts, vectors, strict=True)
    ]


def errors(found: list[Estimate]) -> np.ndarray:
    """Root mean square of what is said of each candidate against the truth of the new model."""
    truth = np.array([TRUTH[row.task] for row in synthetic_rows(150, seed=41)])
    return np.sqrt(np.mean([(e.quality - t) ** 2 for e, t in zip(found, truth, strict=True)], 0))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pools"])
def test_a_model_joins_a_router_of_every_kind_but_one(
    ground: Ground, routed: Routed, encoder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    artifact = routed(replace(ground, encoder=encoder(true_heads())), kind)
    after = joined(artifact, tmp_path)
    others = tuple(ABILITIES)
    new, *known = errors(estimates(after, ("new", *others)))
    spread = float(np.std(list(TRUTH.values())))
    assert new < 0.8 * min(*known, spread), (new, known, spread)
    for old, found in zip(
        estimates(artifact, others), estimates(after, ("large", "new", *others[:2])), strict=True
    ):
        assert found.quality[[2, 3, 0]] == pytest.approx(old.quality, abs=1e-12)
        assert found.support[[2, 3, 0]] == pytest.approx(old.support, rel=1e-4)
    alone = estimates(after, ("new",))
    assert errors(alone)[0] == pytest.approx(new)


@pytest.mark.parametrize("kind", TEXT)
def test_it_is_read_from_words_too(
    ground: Ground, routed: Routed, tmp_path: Path, kind: str
) -> None:
    after = joined(routed(ground, kind), tmp_path)
    assert after.estimator([Candidate("new")]).reads_text
    by_words = estimates(after, ("new", "large"), words=True)
    full = estimates(after, ("new", "large"))
    assert errors(by_words)[0] < 0.85 * float(np.std(list(TRUTH.values())))
    changed = np.std([f.quality - w.quality for f, w in zip(full, by_words, strict=True)], axis=0)
    doubt = [estimate.doubt for estimate in by_words if estimate.doubt is not None]
    assert len(doubt) == len(by_words)
    assert 0.3 * changed[0] < np.mean(doubt, axis=0)[0] < 3.0 * max(changed)


def test_pools_take_none_and_say_why(ground: Ground, routed: Routed) -> None:
    with pytest.raises(DataError, match=r"kind pools: a prompt has a pool only where"):
        check_kind(routed(ground, "pools"))
