"""What a configuration opens from disk: routers, estimators over them, and the encoder.

They are most of a gateway's memory and of its time to start. A configuration that is read again
takes from the one before what has not changed, on disk and in the file; what it does not take goes
with the last request that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from app.config import schema
from app.routing.artifact import Artifact, load_artifact
from app.routing.encoder.base import Encoder
from app.routing.estimators.base import Candidate, Estimator
from app.routing.estimators.remembered import Remembered

Made = TypeVar("Made")


class Opened:
    """What one configuration has opened; `before` is only read, also from another thread."""

    def __init__(self, before: Opened | None = None) -> None:
        self._before: dict[tuple[Any, ...], Any] = {} if before is None else before._made
        self._made: dict[tuple[Any, ...], Any] = {}
        self.has_new = False
        """Whether something was not there already."""

    def complete(self) -> Opened:
        """Let go of the one before, or none of them would ever be let go."""
        self._before = {}
        return self

    def artifact(self, directory: Path) -> Artifact:
        """Raises ArtifactError."""
        return self._get(("router", directory, _state(directory)), lambda: load_artifact(directory))

    def estimator(
        self, artifact: Artifact, candidates: Sequence[Candidate], remembered: int
    ) -> Estimator:
        """With what it remembers: the same candidates of the same router have the same outcomes."""
        key = ("estimator", id(artifact), tuple(candidates), remembered)
        # Kept with the router, whose id nothing else can have as long as it lives.
        pair: tuple[Artifact, Estimator] = self._get(
            key, lambda: (artifact, Remembered(artifact.estimator(candidates), remembered))
        )
        return pair[1]

    def encoder(self, written: schema.Encoder, directory: Path) -> Encoder:
        """`directory` is where an encoder of the kind `onnx` lies. Raises ArtifactError."""
        if written.backend == "onnx":
            from app.routing.encoder.onnx import OnnxEncoder

            return self._get(("onnx", directory, _state(directory)), lambda: OnnxEncoder(directory))
        from app.routing.encoder.sentence_transformers import SentenceTransformersEncoder

        name = written.model
        return self._get((name, _state(Path(name))), lambda: SentenceTransformersEncoder(name))

    def _get(self, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        if key not in self._made:
            self.has_new |= key not in self._before
            self._made[key] = self._before[key] if key in self._before else make()
        made: Made = self._made[key]
        return made


def _state(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What tells a directory's files from others of the same names."""
    if not directory.is_dir():
        return ()
    files = sorted((path for path in directory.rglob("*") if path.is_file()), key=str)
    return tuple(
        (str(file), (told := file.stat()).st_mtime_ns, told.st_size, told.st_ino) for file in files
    )
