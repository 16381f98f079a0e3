"""The configuration in service, which every door asks for anew: another one takes its place in a
single assignment, while requests that have begun go on with theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.config.schema import Config
from app.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Active:
    """A configuration, and the pipeline that was made from it."""

    pipeline: Pipeline
    config: Config
    file: str
    digest: str
    """The file's SHA-256, in hex."""
    version: int
    """Counted from 1 in each process, by one for each configuration that was taken."""
    at: float
    """When it was taken, in seconds since 1970."""


@dataclass(slots=True)
class Serving:
    active: Active

    @property
    def pipeline(self) -> Pipeline:
        return self.active.pipeline
