"""What a comparison compares: a router of each kind, trained, written and opened as the `train`
command does it, so that what is scored is what would be served.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from app.config.names import nearest
from app.errors import DataError
from app.lab.fit import Vectors
from app.lab.outcomes import OutcomeTable
from app.lab.train import TrainSettings, prepare, train_on, write_router
from app.routing.artifact import Artifact, load_artifact
from app.routing.estimators.kinds import DEFAULT_KIND, KINDS

NEEDS_HEADS = "classifier"


@dataclass(frozen=True, slots=True)
class Contestant:
    """An opened router of one kind, good until the next one is asked for; `seconds` are what
    training and writing it alone would take.
    """

    kind: str
    artifact: Artifact
    seconds: float


class Routers(Protocol):
    """Trains one router after the other on the same rows."""

    def __call__(
        self,
        table: OutcomeTable,
        vectors: Vectors,
        kinds: Sequence[str],
        settings: TrainSettings,
        encoder: Mapping[str, Any],
    ) -> Iterator[Contestant]: ...


def routers(
    table: OutcomeTable,
    vectors: Vectors,
    kinds: Sequence[str],
    settings: TrainSettings,
    encoder: Mapping[str, Any],
) -> Iterator[Contestant]:
    """A router of each kind, in a directory that is gone afterwards. What kinds have in common is
    fitted once.
    """
    started = perf_counter()
    ground = prepare(table, vectors, settings)
    common = perf_counter() - started
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="pointsman-compare-") as scratch:
            started = perf_counter()
            out = Path(scratch) / kind
            router = train_on(ground, replace(settings, estimator=kind))
            write_router(router, out, encoder, {"command": "pointsman compare"})
            yield Contestant(kind, load_artifact(out), common + perf_counter() - started)


def choose_kinds(
    asked: Sequence[str] | None,
    *,
    heads: bool,
    kinds: Collection[str] = tuple(KINDS),
    default: str = DEFAULT_KIND,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The kinds to compare, the one that others are compared with first, and why others are left
    out. Where none are named, these are all kinds, the default one first. `heads` says whether the
    encoder was tuned with a head a model.

    Raises DataError where a kind is unknown or none is left.
    """
    for name in asked or ():
        if name not in kinds:
            raise DataError(f"no estimator is called {name}; {nearest(name, kinds)}")
    chosen = list(dict.fromkeys(asked or sorted(kinds, key=lambda kind: kind != default)))
    left_out = {}
    if NEEDS_HEADS in chosen and not heads:
        chosen.remove(NEEDS_HEADS)
        left_out[NEEDS_HEADS] = (
            "the encoder has no heads; make one with `pointsman encoder tune --objective "
            "classifier` and name it with --encoder"
        )
    if not chosen:
        raise DataError(f"nothing to compare: {NEEDS_HEADS}: {left_out[NEEDS_HEADS]}")
    return tuple(chosen), left_out
