"""The names a client may send as `model`, and what each stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from app.catalog.model import Model
from app.config.names import nearest
from app.errors import UnknownModel
from app.routing.objective import Threshold
from app.routing.route import Route

DEFAULT_ROUTE = "auto"
_PREFIX = "pointsman/"
_ROUTELLM = re.compile(r"^router-knn-(0(?:\.\d+)?|1(?:\.0+)?)$")


class Names:
    """Resolves `auto`, `pointsman/<route>`, aliases, models, and `router-knn-<threshold>`."""

    def __init__(self, routes: Mapping[str, Route], models: Mapping[str, Model]) -> None:
        """`routes` by every name a client may send, aliases included."""
        self.routes = dict(routes)
        self.models = dict(models)
        self._targets: dict[str, Route | Model] = {**models, **routes}

    def resolve(self, name: str) -> Route | Model:
        """A route, or a model to pin. Raises UnknownModel with the nearest valid name."""
        target = self._targets.get(name)
        if target is None and name.startswith(_PREFIX):
            target = self.routes.get(name.removeprefix(_PREFIX))
        if target is None:
            target = self._by_threshold(name)
        if target is None:
            hint = nearest(name[:128], self._targets) or "see GET /v1/models"
            raise UnknownModel(f"No model or route named `{name[:128]}`; {hint}", param="model")
        return target

    def _by_threshold(self, name: str) -> Route | None:
        """RouteLLM's way to ask: its users put the threshold into the model's name."""
        match = _ROUTELLM.match(name)
        route = self.routes.get(DEFAULT_ROUTE)
        if match is None or route is None:
            return None
        threshold = Threshold(float(match.group(1)), strong=route.baseline.name)
        return replace(route, objective=threshold)
