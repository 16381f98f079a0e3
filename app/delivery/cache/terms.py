"""What holds for one route's cache, and what makes two requests one and the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import orjson

from app.accounting.caller import Caller
from app.catalog.model import Model
from app.config import schema
from app.config.caching import Cache, CacheScope
from app.exchange.request import Request
from app.routing.names import Names

_NO_MATTER = frozenset(
    {
        "model", "stream", "stream_options", "metadata", "prompt_cache_key",
        "prompt_cache_retention",
    }
)  # fmt: skip
"""Fields that do not change the answer. All others do, also those that nobody here knows."""
_USUAL_TEMPERATURE = 1.0
"""What APIs take where a request says none."""

Key = bytes
"""Sixteen bytes."""

Unfit = Literal["tool_results", "temperature", "store"]


@dataclass(frozen=True, slots=True)
class Terms:
    """`place` tells this route, with its models, from every other."""

    semantic: bool
    ttl_seconds: float
    max_temperature: float
    min_similarity: float
    scope: CacheScope
    place: bytes

    @classmethod
    def compile(
        cls,
        written: Cache,
        name: str,
        models: Iterable[Model],
        encoder: str = "",
        addresses: Mapping[str, str] | None = None,
    ) -> Terms:
        """`encoder` is the fingerprint of the one that makes the vectors; `addresses` are those of
        upstreams, by name."""
        # Whose models change has another answer to give, in this process and in others.
        known = addresses or {}
        served_by = [
            (model.name, each.upstream, each.upstream_id, known.get(each.upstream, ""))
            for model in models
            for each in model.deployments
        ]
        return cls(
            semantic=written.kind == "semantic",
            ttl_seconds=written.ttl_seconds,
            max_temperature=written.max_temperature,
            min_similarity=written.min_similarity,
            scope=written.scope,
            # Vectors of two encoders can't be compared.
            place=orjson.dumps([name, served_by, encoder]),
        )

    def unfit(self, payload: Mapping[str, Any], tool_results: int) -> Unfit | None:
        """Why a request is never answered from the cache; None if it may be."""
        if tool_results:
            return "tool_results"
        temperature = payload.get("temperature")
        if (_USUAL_TEMPERATURE if temperature is None else temperature) > self.max_temperature:
            return "temperature"
        return "store" if payload.get("store") else None


def is_semantic(config: schema.Config) -> bool:
    """Whether anything is compared by vectors."""
    caches = [config.cache, *(_cache_of(config, route) for route in config.routes.values())]
    return any(cache is not None and cache.kind == "semantic" for cache in caches)


def cache_terms(config: schema.Config, names: Names, encoder: str) -> dict[str, Terms]:
    """What holds for the cache, by route and by model; empty where nothing is cached."""
    told: dict[str, Terms] = {}
    addresses = {
        name: upstream.base_url
        for name, upstream in config.upstreams.items()
        if isinstance(upstream, schema.OpenAIUpstream)
    }
    for name, written in config.routes.items():
        cache = _cache_of(config, written)
        if cache is not None:
            route = names.routes[name]
            models = (*route.candidates, *route.fallbacks)
            told[name] = Terms.compile(cache, name, models, encoder, addresses)
    if config.cache is not None:
        for name, model in names.models.items():
            told[name] = Terms.compile(config.cache, name, (model,), encoder, addresses)
    return told


def _cache_of(config: schema.Config, route: schema.Route) -> Cache | None:
    match route.cache:
        case None:
            return config.cache
        case False:
            return None
        case True:
            return config.cache or Cache()
        case terms:
            return (config.cache or Cache()).for_route(terms)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `key` is of all of it, `rest` of all but the last user message, `text`.

    `text` is None where the last message is no plain text of the user.
    """

    key: Key
    rest: Key
    text: str | None


def question(request: Request, terms: Terms, caller: Caller) -> Question:
    """The order of a request's fields does not matter; the order within each does, as that of a
    schema's properties is the order of the answer's."""
    digest = blake2b(digest_size=16)
    # RouteLLM's way to ask: the same route, another threshold.
    named = request.model if request.model.startswith("router-") else ""
    _feed(digest, [terms.place.decode(), named, _shared_by(terms.scope, caller)])
    payload = request.payload
    for name in sorted(payload.keys() - _NO_MATTER - {"messages"}):
        if payload[name] is not None:
            _feed(digest, name)
            _feed(digest, payload[name])
    *earlier, last = payload["messages"]
    for message in earlier:
        _feed(digest, message)
    text = _plain_text(last)
    rest = digest.copy()
    if text is not None:
        _feed(rest, {name: value for name, value in last.items() if name != "content"})
    _feed(digest, last)
    return Question(digest.digest(), rest.digest(), text)


def _shared_by(scope: CacheScope, caller: Caller) -> list[str]:
    if scope == "all":
        return ["all"]
    if scope == "tag" and caller.tags:
        return ["tag", *sorted(set(caller.tags))]
    # Who has no tag has nobody to share with.
    return ["key", caller.key_id or ""]


def _plain_text(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    return content if message["role"] == "user" and isinstance(content, str) else None


def _feed(digest: Any, value: Any) -> None:
    # No JSON holds a bare line feed as it is written here, so values can't run into each other.
    digest.update(orjson.dumps(value))
    digest.update(b"\n")
