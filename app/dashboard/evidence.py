"""The neighbours of a past request: prompts near it that the router has outcomes of.

They are not kept but looked up as a decision is opened, by the route as it is now, from what the
ledger keeps of the prompt. Where it keeps nothing, the page says which setting would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.routing.decider import Decider
from app.routing.decision import PINNED
from app.routing.estimators.base import Neighbour, Query
from app.routing.explain import told_neighbour
from app.routing.names import Names
from app.routing.route import Route

COUNT = 8


class NoEvidence(Exception):
    """There are no neighbours to show; the message says why."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Looks neighbours up. `keeps_text` and `keeps_embeddings` are the ledger's settings."""

    names: Names
    decider: Decider
    keeps_text: bool = False
    keeps_embeddings: bool = False

    async def of(self, route: str, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        """`neighbours`, nearest first, or with none of them `no_neighbours`, which says why. `kept`
        is the request's row of `prompts`."""
        try:
            near = await self._neighbours(route, kept)
        except NoEvidence as why:
            return {"neighbours": [], "no_neighbours": str(why)}
        return {"neighbours": [told_neighbour(one) for one in near], "no_neighbours": None}

    async def _neighbours(self, name: str, kept: Mapping[str, Any] | None) -> tuple[Neighbour, ...]:
        """Raises NoEvidence."""
        route = self._route(name)
        text = kept["text"] if kept is not None and self.keeps_text else None
        if kept is not None and kept["embedding"] is not None:
            vector = np.frombuffer(kept["embedding"], "<f4").astype(np.float32)
            try:
                near = route.estimator.neighbours(Query(text or "", vector), COUNT)
            except (AssertionError, ValueError):
                raise NoEvidence(
                    "The vector that was kept is of another encoder than the route has now."
                ) from None
        elif text:
            near = await self.decider.evidence(route, text, COUNT)
        else:
            raise NoEvidence(self._why_nothing_is_kept())
        if not near:
            raise NoEvidence("The route's kind of router knows no neighbours.")
        return near

    def _route(self, name: str) -> Route:
        if name == PINNED:
            raise NoEvidence("The client named the model, so no neighbours were asked.")
        route = self.names.routes.get(name)
        if route is None:
            raise NoEvidence(f"There is no route `{name}` any more whose router could be asked.")
        if not route.learned:
            raise NoEvidence(
                f"Route `{name}` decides by stated qualities: it has no outcomes of prompts."
            )
        return route

    def _why_nothing_is_kept(self) -> str:
        if self.keeps_embeddings:
            return (
                "No vector was made for this decision, so none was kept. `encode: always` in the "
                "route makes one each time; `ledger.keep_prompt_text` makes it now from the text."
            )
        return (
            "The ledger keeps nothing of prompts that they could be found by. "
            "`ledger.keep_embeddings: true` keeps vectors, without text, from then on."
        )
