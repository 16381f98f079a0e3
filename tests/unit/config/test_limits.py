"""Limits that make no sense are refused with the place to mend; doubtful ones are warned of."""

from __future__ import annotations

import pytest

from app.compiling import compile_config
from app.config import limit_checks
from app.config.load import loads
from app.errors import ConfigError

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  small: {upstream: u, prices: {input: 1, output: 1}, quality: 0.5}
  large: {upstream: u, prices: {input: 9, output: 9}, quality: 0.9}
routes:
  auto:
    candidates: [small, large]
    router: null
    limits: {usd_per_day: 5}
    when_budget_low: {objective: {kind: threshold, threshold: 0.5, strong: large}}
limits: {requests_per_minute: 100}
tags: {batch: {limits: {parallel_requests: 3}}}
redis: {url: 'redis://:a-secret@127.0.0.1:6379/0'}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compile_config(loads(text))
    return [str(problem) for problem in caught.value.problems]


def doubts(text: str, workers: int = 1) -> list[str]:
    return [str(doubt) for doubt in limit_checks.doubts(loads(text), workers)]


def test_valid_limits() -> None:
    compiled = compile_config(loads(TEXT))
    assert compiled.warnings == ()
    route = compiled.names.routes["auto"]
    assert route.thrifty is not None
    assert route.thrifty.objective.describe()["kind"] == "threshold"
    assert (route.thrifty.name, route.thrifty.candidates) == (route.name, route.candidates)
    assert "a-secret" not in repr(compiled.config)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("usd_per_day: 5", "usd_per_day: -5", "9: routes.auto.limits.usd_per_day: input should be"),
        ("{batch:", "{none:", "12: tags.none: is reserved"),
        ("usd_per_day: 5", "usd_per_day: 0", "routes.auto.limits.usd_per_day: input should be gre"),
        (
            "usd_per_day: 5",
            "usd_per_day: .nan",
            "routes.auto.limits.usd_per_day: input should be a",
        ),
        (
            "usd_per_day: 5",
            "usd_per_day: .inf",
            "routes.auto.limits.usd_per_day: input should be a",
        ),
        ("usd_per_day: 5", "usd_per_day: 1e99", "routes.auto.limits.usd_per_day: "),
        ("usd_per_day: 5", "usd_per_day: five", "routes.auto.limits.usd_per_day: "),
        ("usd_per_day: 5", "usd_per_dai: 5", "unknown key (did you mean `usd_per_day`?)"),
        (
            "usd_per_day: 5",
            "usd_per_day: 5, usd_per_month: 4",
            "9: routes.auto.limits: `usd_per_day` is more than `usd_per_month`, and so would never",
        ),
        ("requests_per_minute: 100", "requests_per_minute: 0", "11: limits.requests_per_minute: "),
        ("requests_per_minute: 100", "requests_per_minute: 1.5", "limits.requests_per_minute: "),
        ("requests_per_minute: 100", "soft_share: 80", "limits.soft_share: "),
        (
            "parallel_requests: 3",
            "parallel_requests: -1",
            "12: tags.batch.limits.parallel_requests",
        ),
        ("{batch: {", "{'a b': {", "tags.a b: must be a name"),
        (
            "strong: large",
            "strong: larg",
            "10: routes.auto.when_budget_low.objective.strong: `larg`",
        ),
        ("kind: threshold", "kind: guarantee", "when_budget_low.objective.kind: must be one of"),
        ("redis://", "http://", "13: redis.url: must be an address such as redis://127.0.0.1:6379"),
        ("redis://", "redi://", "redis.url: must be an address such as"),
        ("'redis://:a-secret@127.0.0.1:6379/0'", "''", "redis.url: is empty"),
        ("127.0.0.1:6379/0", "", "redis.url: must be an address"),
        ("6379/0'", "6379/0', prefix: 'a{b}'", "redis.prefix: must be a name"),
        ("6379/0'", "6379/0', timeout_ms: 0", "redis.timeout_ms: "),
        ("6379/0'", "6379/0', lease_seconds: 0.1", "redis.lease_seconds: "),
    ],
)
def test_what_is_refused(old: str, new: str, message: str) -> None:
    changed = TEXT.replace(old, new)
    assert changed != TEXT
    said = problems(changed)
    assert any(message in each for each in said), said
    assert "a-secret" not in "".join(said)


@pytest.mark.parametrize("url", ["rediss://cache.example:6380/1", "unix:///run/redis.sock?db=2"])
def test_other_ways_to_redis(url: str) -> None:
    loads(TEXT.replace("redis://:a-secret@127.0.0.1:6379/0", url))


def test_a_budget_that_nothing_could_be_counted_against() -> None:
    text = TEXT.replace(", prices: {input: 1, output: 1}", "")
    text = text.replace(", prices: {input: 9, output: 9}", "")
    assert "9: routes.auto.limits.usd_per_day: no model has prices" in problems(text)[0]


def test_a_model_without_a_price_counts_at_the_dearest() -> None:
    (said,) = doubts(TEXT.replace(", prices: {input: 1, output: 1}", ""))
    assert "3: models.small: budgets count its requests at the dearest prices" in said


def test_workers_without_redis_have_a_part_each() -> None:
    alone = TEXT.replace("redis:", "#")
    (said,) = doubts(alone, workers=4)
    assert "server.workers: without `redis` each of the 4 workers has an equal part" in said
    assert doubts(alone) == doubts(TEXT, workers=4) == []


def test_what_is_of_no_use() -> None:
    assert (
        "tags.batch.limits: nothing is limited"
        in doubts(TEXT.replace("parallel_requests: 3", "soft_share: 0.5"))[0]
    )
    (said,) = doubts(TEXT.replace("usd_per_day", "requests_per_minute"))
    assert "routes.auto.when_budget_low: only the budgets of keys" in said
