"""The record of one request: what was decided, what was tried, what came out, what it cost.

Filled in as the request goes its way, and settled once: metrics, headers and the ledger all read
from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Literal, Protocol

from app.exchange.reply import Headers
from app.exchange.usage import Usage

if TYPE_CHECKING:
    from app.exchange.trace import Trace


HEDGED_AWAY = "hedged_away"
"""How an attempt ended that another one, asked beside it, was sooner than."""


@dataclass(slots=True)
class Attempt:
    """One call to an upstream. `outcome` is `ok`, one of the outcomes in `app.errors`, or how its
    stream ended.

    `usage` is what the upstream reported, or where it broke off without a report an estimate;
    `usage_fault` is what made a report useless. `charged` is False where it failed in a way that
    providers don't charge for. `text_bytes` is how much text of a stream had come. `cost` is in
    nano-dollars, None if unknown.
    """

    upstream: str
    model: str
    outcome: str
    seconds: float
    status: int | None = None
    usage: Usage | None = None
    usage_fault: str | None = None
    charged: bool = True
    text_bytes: int = 0
    cost: int | None = None
    estimated: bool = False
    deployment: str | None = None
    """Which of the model's served it; None where it has but one."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was expected of a candidate: quality with its interval, cost in nano-dollars."""

    model: str
    quality: float
    low: float
    high: float
    cost: int | None
    eligible: bool


@dataclass(slots=True)
class Cached:
    """What the cache had to do with a request. `reason` says how a hit was found, or why the cache
    was not looked into; `age_seconds`, `similarity` (a similar question's) and `usage`, of the
    answer when it was made, are a hit's."""

    result: Literal["hit", "miss", "bypass"]
    reason: str = ""
    age_seconds: int | None = None
    similarity: float | None = None
    usage: Usage | None = None


class Held(Protocol):
    """What a request has reserved of its limits, as far as a reply tells of it. What it is made of
    is the limiter's own affair."""

    headers: Headers


@dataclass(slots=True)
class Record:
    """One request, from its first byte to its last. Money in nano-dollars, None if unknown;
    `booked` is what was set down against its route's budget before its cost was known.

    `usage` is that of the attempt that served; `cost` is the sum over all attempts, and
    `cost_estimated` says that some of it is an estimate. `upstream_cost` is what upstreams say that
    they charged, which is not believed. `expected_input_tokens` is the request's size by its facts.

    `started` is when the request arrived and `received` when its body was whole. Durations in
    seconds: `duration` from the first, `decide` (encoding included), `first_token` (to the first
    event) and `overhead` (without the time spent in upstreams, `upstream`) from the second. Those
    two are on a clock that only runs; `at` is the wall clock's, in seconds since 1970.

    `prompt` and `embedding` (float32, little-endian) are there only if the ledger keeps them.
    """

    request_id: str
    started: float
    received: float
    route: str = "none"
    decision: str = "none"
    reason: str = "none"
    speed: str = "none"
    key_id: str | None = None
    tags: tuple[str, ...] = ()
    model: str | None = None
    upstream: str | None = None
    status: int = 0
    outcome: str = "error"
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    cost: int | None = None
    cost_estimated: bool = False
    upstream_cost: int | None = None
    expected_input_tokens: int = 0
    baseline_cost: int | None = None
    booked: float = 0.0
    hold: Held | None = None
    """None where the request meets no limit."""
    cache: Cached | None = None
    """None where nothing is cached."""
    trace: Trace | None = None
    """None where nothing is traced."""
    duration_seconds: float = 0.0
    overhead_seconds: float | None = None
    decide_seconds: float = 0.0
    upstream_seconds: float = 0.0
    first_token_seconds: float | None = None
    at: float = field(default_factory=time)
    predictions: tuple[Prediction, ...] = ()
    prompt: str | None = None
    embedding: bytes | None = None

    @property
    def served(self) -> Attempt | None:
        """The attempt that served: the last one of the model's, as `attempts` are in the order in
        which they ended but for one that overtook another, which comes after it."""
        for attempt in reversed(self.attempts):
            if attempt.model == self.model:
                return attempt
        return None

    @property
    def saved(self) -> int | None:
        """Against the baseline with the same usage; negative where the choice cost more, or where
        attempts cost something and none of them brought an answer."""
        if self.cost is None or self.baseline_cost is None:
            return None
        return self.baseline_cost - self.cost
