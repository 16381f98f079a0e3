"""Names in the YAML that must exist elsewhere in it, and names that must not clash.

Works on the plain values rather than on the validated `Config`, so that a file with a mistake of
shape in one place still gets its dangling names reported in the same run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.config.document import Document, KeyPath
from app.config.names import nearest
from app.errors import Problem

RESERVED = re.compile(r"^(pointsman/.*|router-[a-z]+-[0-9.]+|pinned|none)$")
"""Names with a meaning of their own: a route spelled out, RouteLLM's way to ask, metric labels."""


def check(document: Document) -> list[Problem]:
    """Every dangling or clashing name."""
    upstreams = section(document.values, "upstreams")
    models = section(document.values, "models")
    routes = section(document.values, "routes")
    return [
        *_upstreams_of_models(document, models, upstreams),
        *_models_of_routes(document, routes, models),
        *_hedges_to_nobody(document, routes, models),
        *_clashes(document, routes, models),
        *_scopes_of_keys(document, routes, models),
    ]


def section(values: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The entries of a section that are mappings; what else is there is reported by the schema."""
    entries = values.get(key)
    if not isinstance(entries, dict):
        return {}
    return {name: entry if isinstance(entry, dict) else {} for name, entry in entries.items()}


def strings(entry: Mapping[str, Any], key: str) -> list[tuple[KeyPath, str]]:
    """Texts under a key, each with its path: of a list, or of one text."""
    value = entry.get(key)
    if isinstance(value, str):
        return [((key,), value)]
    if isinstance(value, list):
        return [((key, i), item) for i, item in enumerate(value) if isinstance(item, str)]
    return []


def _upstreams_of_models(
    document: Document, models: Mapping[str, Any], upstreams: Mapping[str, Any]
) -> Iterator[Problem]:
    for name, model in models.items():
        for path, upstream in [*strings(model, "upstream"), *_upstreams_of_deployments(model)]:
            if upstream not in upstreams:
                yield document.problem(
                    ("models", name, *path),
                    f"no upstream named `{upstream}`",
                    nearest(upstream, upstreams),
                )
        yield from _both_forms(document, name, model)
        yield from _same_deployments(document, name, model)


def _deployments(model: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    entries = model.get("deployments")
    listed = entries if isinstance(entries, list) else []
    return [(i, entry) for i, entry in enumerate(listed) if isinstance(entry, dict)]


def _upstreams_of_deployments(model: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for i, entry in _deployments(model):
        for path, upstream in strings(entry, "upstream"):
            yield ("deployments", i, *path), upstream


def _both_forms(document: Document, name: str, model: Mapping[str, Any]) -> Iterator[Problem]:
    if model.get("deployments") is None:
        if model.get("upstream") is None:
            yield document.problem(
                ("models", name, "upstream"), "is required", "or several, as `deployments`"
            )
        return
    for key in ("upstream", "id"):
        if model.get(key) is not None:
            yield document.problem(
                ("models", name, key), f"give `{key}` or `deployments`, not both"
            )


def _same_deployments(document: Document, name: str, model: Mapping[str, Any]) -> Iterator[Problem]:
    """Two that nothing tells apart would share one state, and are one."""
    seen: set[tuple[object, object]] = set()
    for i, entry in _deployments(model):
        place = (entry.get("upstream"), entry.get("id") or name)
        if place in seen:
            yield document.problem(
                ("models", name, "deployments", i),
                "the same upstream and id are listed twice",
                "give the one a larger `weight`",
            )
        seen.add(place)


def _models_of_routes(
    document: Document, routes: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[Problem]:
    for name, route in routes.items():
        candidates = strings(route, "candidates")
        for path, model in [*candidates, *strings(route, "fallbacks"), *strings(route, "baseline")]:
            if model not in models:
                yield document.problem(
                    ("routes", name, *path), f"no model named `{model}`", nearest(model, models)
                )
        named = [model for _, model in candidates]
        for i, (path, model) in enumerate(candidates):
            if model in named[:i]:
                yield document.problem(("routes", name, *path), f"`{model}` is listed twice")
        for place, objective in _objectives(route):
            for side in ("strong", "weak"):
                for _, model in strings(objective, side):
                    if model not in named:
                        yield document.problem(
                            ("routes", name, *place, side),
                            f"`{model}` is not a candidate of this route",
                            nearest(model, named),
                        )


def _hedges_to_nobody(
    document: Document, routes: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[Problem]:
    for name, route in routes.items():
        hedge = route.get("hedge")
        if not isinstance(hedge, dict):
            continue
        named = {one for key in ("candidates", "fallbacks") for _, one in strings(route, key)}
        several = any(len(_deployments(models.get(one, {}))) > 1 for one in named)
        if not several and not (hedge.get("models") and len(named) > 1):
            yield document.problem(
                ("routes", name, "hedge"),
                "no model of this route has a second deployment to ask",
                "list `deployments`, or let it ask other `models: true`",
            )


def _scopes_of_keys(
    document: Document, routes: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[Problem]:
    entries = document.values.get("keys")
    if not isinstance(entries, list):
        return
    words = [
        *routes,
        *(alias for route in routes.values() for _, alias in strings(route, "aliases")),
    ]
    ids: set[str] = set()
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        for kind, known in (("routes", words), ("models", [*models])):
            for path, name in strings(entry, kind):
                if name not in known:
                    yield document.problem(
                        ("keys", i, *path), f"no {kind[:-1]} named `{name}`", nearest(name, known)
                    )
        for path, key_id in strings(entry, "id"):
            if key_id in ids:
                yield document.problem(("keys", i, *path), f"`{key_id}` is listed twice")
            ids.add(key_id)


def _objectives(route: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """A route's objectives, each with its path."""
    low = route.get("when_budget_low")
    for place, entry in (((), route), (("when_budget_low",), low)):
        objective = entry.get("objective") if isinstance(entry, dict) else None
        if isinstance(objective, dict):
            yield (*place, "objective"), objective


def _clashes(
    document: Document, routes: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[Problem]:
    """A name that a client sends must mean one thing."""
    taken: dict[str, str] = dict.fromkeys(models, "a model")
    for name in models:
        if RESERVED.match(name):
            yield document.problem(("models", name), "this name is reserved")
    for name, route in routes.items():
        words: list[tuple[KeyPath, str]] = [((), name), *strings(route, "aliases")]
        for path, word in words:
            if RESERVED.match(word):
                yield document.problem(("routes", name, *path), f"`{word}` is reserved")
            elif word in taken:
                yield document.problem(
                    ("routes", name, *path), f"`{word}` is already the name of {taken[word]}"
                )
            else:
                taken[word] = f"route `{name}`"
