"""What a file says of the cache, and what it comes to for each route and model."""

from __future__ import annotations

import pytest

from app.compiling import compile_config
from app.config.load import loads
from app.errors import ConfigError

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models: {m: {upstream: u, quality: 0.5}}
routes:
  auto: {candidates: [m], router: null, aliases: [other]}
  off: {candidates: [m], router: null, cache: false}
  own: {candidates: [m], router: null, cache: {ttl_seconds: 5, kind: exact}}
  'on': {candidates: [m], router: null, cache: true}
"""


def cached(text: str) -> dict[str, tuple[bool, float, str]]:
    terms = compile_config(loads(text)).cached
    return {name: (one.semantic, one.ttl_seconds, one.scope) for name, one in terms.items()}


def test_without_one_at_the_top_routes_speak_for_themselves() -> None:
    assert cached(TEXT) == {"own": (False, 5, "key"), "on": (False, 3_600, "key")}
    assert compile_config(loads(TEXT)).encoder is None


def test_routes_take_what_they_do_not_say_from_the_top() -> None:
    told = cached(TEXT + "cache: {kind: semantic, ttl_seconds: 60, scope: all}\n")
    top = (True, 60, "all")
    assert told == {"auto": top, "own": (False, 5, "all"), "on": top, "m": top}


def test_a_semantic_cache_needs_the_encoder() -> None:
    assert compile_config(loads(TEXT + "cache: {kind: semantic}\n")).encoder is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cache: true", "cache: yes please", "routes.on.cache: must be true, false, or what is"),
        ("kind: exact", "kind: fuzzy", "routes.own.cache.kind: must be one of 'exact' or"),
        ("ttl_seconds: 5", "ttl_second: 5", "unknown key (did you mean `ttl_seconds`?)"),
        ("ttl_seconds: 5", "max_bytes: 5", "6: routes.own.cache.max_bytes: unknown key"),
        ("ttl_seconds: 5", "min_similarity: 95", "routes.own.cache.min_similarity: input should"),
        ("ttl_seconds: 5", "max_temperature: 3", "routes.own.cache.max_temperature: input should"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(TEXT.replace(old, new))
    assert message in str(caught.value)
