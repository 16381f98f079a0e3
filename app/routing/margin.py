"""How much doubt a choice made from a prompt's words must bear, so that a set share is encoded.

How close choices lie to a route's bar differs between routes by far more than doubt does: with one
margin for all, models that are nearly as good as each other would have every prompt encoded. So the
margin is followed: each new prompt that was encoded lowers it a little, each that was not raises it
(the stochastic approximation of a quantile, Robbins and Monro 1951, on a log scale). The prompts
encoded are then those whose choices are the least clear.

The one thing that two speeds have to remember. Each worker process keeps its own.
"""

from __future__ import annotations

import math

MOST = 1.0
SHARE = 0.15
STEP = 0.05
"""How far one prompt moves the margin, on the scale of its logarithm: a new kind of traffic is
followed within some hundreds of prompts, and chance moves it by a few percent.
"""
LEAST = 1e-3
"""Floor, as a part of the most: with traffic that is all novel, which is encoded whatever the
margin, it would otherwise fall to where it takes as long to come back.
"""


class Margin:
    """`value`, in standard deviations of doubt, never above `most`; `share` of new prompts are to
    be encoded, fewer where `most` allows no more. With a share of 1 it stays at `most`.
    """

    __slots__ = ("_most", "_share", "value")

    def __init__(self, most: float = MOST, share: float = SHARE) -> None:
        self._most = most
        self._share = share
        self.value = most

    def succeed(self, former: Margin) -> None:
        """Go on from where the same route's margin is."""
        self.value = min(max(former.value, LEAST * self._most), self._most)

    def count(self, *, encoded: bool) -> None:
        """A prompt that had no vector yet was encoded, or was decided by its words."""
        moved = self.value * math.exp(STEP * (self._share - encoded))
        self.value = min(max(moved, LEAST * self._most), self._most)
