"""A method for candidates of which some joined after training (`pointsman add-model`): each of
those is a mixture of the known models in log-odds, with a little of its own by the vector.

Candidates that were trained on are asked for as ever. For the others the router's method is bound
to all known models, as it was when they joined: some kinds say of a model what depends on who else
is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array, Vector
from app.routing.estimators.clusters import ClusterPrior, log_odds_of, sigmoid
from app.routing.estimators.method import Method, Near, Read, Reader


@dataclass(frozen=True, slots=True)
class Mixtures:
    """m models as sums of the log-odds of all known ones: `weights` (m, known), `bias` (m,).

    `heads` (m, d) add what is a model's own, by the vector less `centre` (m,). `doubt` (m,) is what
    the vector changes of each against the known models, a standard deviation.
    """

    weights: Array
    bias: Array
    heads: NDArray[np.float32]
    centre: Array
    doubt: Array

    def quality(self, known: Array, vector: Vector | None = None) -> Array:
        """(m,) from the quality of the known models."""
        log_odds = self.weights @ log_odds_of(known) + self.bias
        if vector is not None:
            log_odds = log_odds + (self.heads @ vector - self.centre)
        return sigmoid(log_odds)


@dataclass(frozen=True, slots=True)
class Whole:
    """A router's method and clusters, bound to all models that it was trained on."""

    method: Method
    prior: ClusterPrior

    def quality(self, near: Near) -> Array:
        found = self.method.quality(near)
        return np.where(np.isnan(found), near.shares @ self.prior.quality, found)

    @property
    def reads_text(self) -> bool:
        return isinstance(self.method, Reader)

    def read(self, text: str) -> Read:
        """Raises TypeError where the method reads no text."""
        if not isinstance(self.method, Reader):
            raise TypeError("this kind of estimator reads no text")
        read = self.method.read(text)
        known = np.where(np.isnan(read.quality), self.prior.overall, read.quality)
        return replace(read, quality=known)


class Mixed:
    """Bound to a route's candidates; see the module."""

    def __init__(
        self, plain: Method | None, whole: Whole, mixtures: Mixtures, joined: NDArray[np.bool_]
    ) -> None:
        """`joined` (M,) says which of the candidates are the mixtures, in their order; `plain` is
        bound to the others, None where there are none.
        """
        self._plain = plain
        self._whole = whole
        self._mixtures = mixtures
        self._joined = joined

    def quality(self, near: Near) -> Array:
        quality = np.empty(len(self._joined))
        if self._plain is not None:
            quality[~self._joined] = self._plain.quality(near)
        quality[self._joined] = self._mixtures.quality(self._whole.quality(near), near.vector)
        return quality


class MixedReader(Mixed):
    """The same where the kind reads text."""

    def __init__(
        self,
        plain: Reader | None,
        whole: Whole,
        mixtures: Mixtures,
        joined: NDArray[np.bool_],
    ) -> None:
        super().__init__(plain, whole, mixtures, joined)
        self._plain_reader = plain

    def read(self, text: str) -> Read:
        read = self._whole.read(text)
        quality, doubt = np.empty((2, len(self._joined)))
        if self._plain_reader is not None:
            plain = self._plain_reader.read(text)
            quality[~self._joined], doubt[~self._joined] = plain.quality, plain.doubt
        quality[self._joined] = self._mixtures.quality(read.quality)
        doubt[self._joined] = self._mixtures.doubt
        return Read(quality, doubt, read.length, read.novelty)


def mixed(
    plain: Method | None, whole: Whole, mixtures: Mixtures, joined: NDArray[np.bool_]
) -> Method:
    """What reads text where the router's method does; see `Mixed`."""
    if whole.reads_text and (plain is None or isinstance(plain, Reader)):
        return MixedReader(plain, whole, mixtures, joined)
    return Mixed(plain, whole, mixtures, joined)
