"""One common ground for all kinds."""

from collections.abc import Callable

import pytest

from app.lab.ground import Ground
from app.lab.outcomes import OutcomeTable
from app.lab.synthetic import WordEncoder
from app.lab.train import TrainSettings, prepare, train_on, write_router
from app.routing.artifact import Artifact, load_artifact

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
