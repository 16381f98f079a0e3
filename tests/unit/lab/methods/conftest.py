"""One common ground for all kinds, and an encoder with heads for the one that needs them."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.lab.ground import Ground
from app.lab.outcomes import OutcomeTable
from app.lab.synthetic import WordEncoder, synthetic_rows, true_quality
from app.lab.train import TrainSettings, prepare, train_on, write_router
from app.routing.artifact import Artifact, load_artifact
from app.routing.estimators.classifier import HEADS_FILE, ClassifierHeads, PairHead, TunedHeads
from app.routing.estimators.clusters import log_odds_of

MODELS = ("large", "medium", "small")

ENCODER = {
    "name": "words",
    "fingerprint": WordEncoder.fingerprint,
    "dimensions": WordEncoder.dimensions,
    "source": "app.lab.synthetic",
}


@pytest.fixture(scope="session")
def ground(table: OutcomeTable) -> Ground:
    return prepare(table, WordEncoder().encode(table.prompts), TrainSettings())


@pytest.fixture(scope="session")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Ground, str], Artifact]:
    """Fits a kind on a ground, writes the router and opens it."""

    def routed(ground: Ground, kind: str) -> Artifact:
        router = train_on(ground, TrainSettings(estimator=kind))
        out = tmp_path_factory.mktemp("routers") / kind
        write_router(router, out, ENCODER, {})
        return load_artifact(out)

    return routed


def true_heads(stretch: float = 1.0, shift: float = 0.0) -> ClassifierHeads:
    """Heads that know the truth, in log-odds that are stretched and shifted."""
    rows = synthetic_rows(400, seed=9)
    vectors = WordEncoder().encode([row.prompt for row in rows])
    truth = np.array([[true_quality(model, row.task) for model in MODELS] for row in rows])
    inputs = np.hstack([vectors, np.ones((len(vectors), 1))])
    weights = np.linalg.lstsq(inputs, log_odds_of(truth) * stretch + shift, rcond=None)[0]
    return ClassifierHeads(weights.astype(np.float32))


@pytest.fixture
def encoder(tmp_path: Path) -> Callable[..., Path]:
    def encoder(
        heads: ClassifierHeads,
        *,
        pair: PairHead | None = None,
        test_share: float = 0.15,
        models: tuple[str, ...] = MODELS,
    ) -> Path:
        named = (None, None) if pair is None else ("large", "small")
        content, entry = TunedHeads(models, heads, *named, pair).write()
        manifest = {
            "format": "pointsman-encoder",
            "version": 1,
            "fingerprint": "x",
            "dimensions": len(heads.weights) - 1,
            "max_tokens": 16,
            "tail_tokens": 4,
            "heads": entry,
            "files": {HEADS_FILE: {"sha256": sha256(content).hexdigest()}},
            "tuning": {"objective": "classifier", "test_share": test_share},
        }
        directory = tmp_path / "encoder"
        directory.mkdir(exist_ok=True)
        (directory / HEADS_FILE).write_bytes(content)
        (directory / "manifest.json").write_bytes(orjson.dumps(manifest))
        return directory

    return encoder
