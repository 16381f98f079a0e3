"""Promises that were calibrated for a router: read from its directory and matched to a route.

They stand in a file of their own beside the router's, because they are made after it, from other
rows; each file names the router it was made with by the hash of its manifest, so that a promise
never outlives a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ArtifactError

PROMISES_FILE = "guarantees.json"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Simulation(_Stored):
    """Calibrations on fresh draws of the same rows: the share of them that broke the promise."""

    splits: int
    violations: float
    weak_share: float


class DataFile(_Stored):
    """Calibration data, by name and hash."""

    file: str
    sha256: str


class Promise(_Stored):
    """The mean quality kept is at least `keep` of the `strong` model's, with confidence 1 - delta.

    It holds where one of `weak`, first to last, is chosen when its predicted quality is at most
    `threshold` under the strong model's, and the strong one otherwise, as in any prompt more novel
    than `novelty_limit`. Names are the router's. `n` rows; `kept` and `weak_share` are estimates
    on them; `bound_value` is the upper bound of mean(keep * strong score - chosen score).
    """

    strong: str
    weak: tuple[str, ...] = Field(min_length=1)
    keep: float = Field(gt=0, le=1)
    delta: float = Field(gt=0, lt=1)
    bound: Literal["betting", "bernstein", "normal"]
    threshold: float = Field(ge=-1, le=1)
    novelty_limit: float = Field(ge=0, le=1)
    n: int = Field(gt=0)
    bound_value: float
    kept: float
    weak_share: float
    date: str
    data: tuple[DataFile, ...]
    sources: tuple[str, ...]
    simulated: Simulation | None = None

    def covers(self, strong: str, weak: Sequence[str], keep: float, delta: float) -> bool:
        """Whether it promises as much, or more, for these models."""
        same = self.strong == strong and set(self.weak) == set(weak)
        return same and self.keep >= keep and self.delta <= delta


class Promises(_Stored):
    """The file."""

    format: Literal["pointsman-guarantees"] = "pointsman-guarantees"
    version: Literal[1] = 1
    router: str
    """SHA-256 of the manifest of the router they were calibrated with."""
    guarantees: tuple[Promise, ...]

    def adding(self, promise: Promise) -> Promises:
        """With this one, instead of any on the same terms."""
        others = [each for each in self.guarantees if _terms(each) != _terms(promise)]
        return self.model_copy(update={"guarantees": (*others, promise)})


def read_promises(directory: Path, manifest_file: str) -> Promises:
    """Those of a router; none where there is no file.

    Raises ArtifactError where the file is damaged or belongs to another router.
    """
    router = sha256((directory / manifest_file).read_bytes()).hexdigest()
    path = directory / PROMISES_FILE
    if not path.exists():
        return Promises(router=router, guarantees=())
    try:
        promises = Promises.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(
            f"router {directory}: {PROMISES_FILE} can't be read; remove it and run "
            "`pointsman calibrate` again"
        ) from error
    if promises.router != router:
        raise ArtifactError(
            f"router {directory}: {PROMISES_FILE} was calibrated with another router; remove it "
            "and run `pointsman calibrate` again"
        )
    return promises


def best_promise(
    promises: Sequence[Promise], strong: str, weak: Sequence[str], keep: float, delta: float
) -> Promise | None:
    """The one that covers these terms and uses the cheaper models most."""
    fitting = [each for each in promises if each.covers(strong, weak, keep, delta)]
    return max(fitting, key=lambda each: each.weak_share, default=None)


def _terms(promise: Promise) -> tuple[object, ...]:
    return (promise.strong, promise.weak, promise.keep, promise.delta, promise.bound)
