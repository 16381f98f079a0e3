"""The written form of what is answered from a cache, for how long and for whom. docs/caching.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from app.config.fields import Written

CacheKind = Literal["exact", "semantic"]
CacheScope = Literal["key", "tag", "all"]
TTL = Annotated[float, Field(gt=0, le=31_536_000)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Similarity = Annotated[float, Field(ge=0.5, le=1)]
_KIND = "exact: the same request; semantic: also one whose last user message is worded otherwise."
_TEMPERATURE = (
    "A request above it is not answered from the cache. One that says no temperature has 1."
)
_SIMILARITY = "semantic: how alike two messages must be, as the cosine of their vectors."
_SCOPE = "Who shares answers: each key for itself, keys with the same tags, or all of a route."


class RouteCache(Written):
    """What is otherwise than in `cache` for one route."""

    kind: CacheKind | None = Field(default=None, description=_KIND)
    ttl_seconds: TTL | None = Field(default=None, description="How long an answer is good for.")
    max_temperature: Temperature | None = Field(default=None, description=_TEMPERATURE)
    min_similarity: Similarity | None = Field(default=None, description=_SIMILARITY)
    scope: CacheScope | None = Field(default=None, description=_SCOPE)


class Cache(Written):
    """Answers that are kept and given again, for every route and model asked for by name."""

    kind: CacheKind = Field(default="exact", description=_KIND)
    ttl_seconds: TTL = Field(default=3_600, description="How long an answer is good for.")
    max_temperature: Temperature = Field(default=0, description=_TEMPERATURE)
    min_similarity: Similarity = Field(default=0.95, description=_SIMILARITY)
    scope: CacheScope = Field(default="key", description=_SCOPE)
    max_entries: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Answers kept in the memory of a process."
    )
    max_bytes: int = Field(
        default=128 * 1024 * 1024,
        ge=64 * 1024,
        description="Their size together; the ones not asked for the longest go first.",
    )

    def for_route(self, route: RouteCache) -> Cache:
        """These terms with what a route says otherwise."""
        said = route.model_dump(exclude_none=True)
        return self.model_copy(update=said)


def _form(written: object) -> str | None:
    if isinstance(written, bool):
        return "switch"
    return "terms" if isinstance(written, dict | RouteCache) else None


SwitchOrTerms = Annotated[
    Annotated[bool, Tag("switch")] | Annotated[RouteCache, Tag("terms")],
    Discriminator(
        _form,
        custom_error_type="form_of_cache",
        custom_error_message="must be true, false, or what is otherwise than in the top `cache`",
    ),
]
