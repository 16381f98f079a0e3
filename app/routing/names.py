"""The names a client may send as `model`, and what each stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from app.accounting.caller import Caller
from app.catalog.model import Model
from app.config.names import nearest
from app.errors import OutOfScope, UnknownModel
from app.routing.objective import Threshold
from app.routing.route import Route

DEFAULT_ROUTE = "auto"
_PREFIX = "pointsman/"
_TOLD = 20
_ROUTELLM = re.compile(r"^router-knn-(0(?:\.\d+)?|1(?:\.0+)?)$")


class Names:
    """Resolves `auto`, `pointsman/<route>`, aliases, models, and `router-knn-<threshold>`."""

    def __init__(self, routes: Mapping[str, Route], models: Mapping[str, Model]) -> None:
        """`routes` by every name a client may send, aliases included."""
        self.routes = dict(routes)
        self.models = dict(models)
        self._targets: dict[str, Route | Model] = {**models, **routes}

    def resolve(self, name: str, caller: Caller) -> Route | Model:
        """A route, or a model to pin. Raises UnknownModel with the nearest valid name, or
        OutOfScope.

        To a key with a scope, what is not for it and what does not exist are told alike: it learns
        no name but its own.
        """
        target = self._find(name)
        if target is not None and _permits(caller, target, self.routes):
            return target
        if caller.scoped:
            mine = [word for word in self._targets if self.permits(caller, word)]
            told = ", ".join(mine[:_TOLD]) + (", ..." if len(mine) > _TOLD else "")
            raise OutOfScope(
                f"Key {caller.key_id} may not ask for `{name[:128]}`; it may ask for: "
                f"{told or 'no model at all'}.",
                param="model",
            )
        hint = nearest(name[:128], self._targets) or "see GET /v1/models"
        raise UnknownModel(f"No model or route named `{name[:128]}`; {hint}", param="model")

    def succeed(self, former: Names) -> None:
        """Each route goes on from where the one of its name is in the configuration before."""
        for name, route in self.routes.items():
            before = former.routes.get(name)
            if before is not None and name == route.name == before.name:
                route.succeed(before)

    def permits(self, caller: Caller, name: str) -> bool:
        """Whether a name is known and open to a caller."""
        target = self._find(name)
        return target is not None and _permits(caller, target, self.routes)

    def _find(self, name: str) -> Route | Model | None:
        target = self._targets.get(name)
        if target is None and name.startswith(_PREFIX):
            target = self.routes.get(name.removeprefix(_PREFIX))
        return target or self._by_threshold(name)

    def _by_threshold(self, name: str) -> Route | None:
        """RouteLLM's way to ask: its users put the threshold into the model's name."""
        match = _ROUTELLM.match(name)
        route = self.routes.get(DEFAULT_ROUTE)
        if match is None or route is None:
            return None
        threshold = Threshold(float(match.group(1)), strong=route.baseline.name)
        return replace(route, objective=threshold)


def _permits(caller: Caller, target: Route | Model, routes: Mapping[str, Route]) -> bool:
    if isinstance(target, Model):
        return caller.models is None or target.name in caller.models
    if caller.routes is None or target.name in caller.routes:
        return True
    # A scope may also say an alias.
    return any(word in routes and routes[word].name == target.name for word in caller.routes)
