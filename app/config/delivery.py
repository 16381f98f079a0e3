"""The written form of how requests are delivered: where, how long, how often, and when no more."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from app.config.fields import Name, Seconds, Written
from app.config.prices import PricesOrLists


class Timeouts(Written):
    connect_seconds: Seconds = 5
    first_byte_seconds: Seconds = Field(
        default=120,
        description="From sending the request to the first byte (non-streaming: the headers).",
    )
    idle_seconds: Seconds = Field(default=60, description="Longest silence between two chunks.")
    total_seconds: Seconds = 600


class RouteTimeouts(Written):
    """In place of the upstreams' own; what is left out stays as it is there."""

    connect_seconds: Seconds | None = None
    first_byte_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    total_seconds: Seconds | None = Field(
        default=None, description="Of the whole request, over all its attempts."
    )


class Retries(Written):
    """Asking the same deployment again, after every other that could serve has been asked."""

    attempts: int = Field(
        default=2, ge=0, le=20, description="How often one deployment is asked again in a request."
    )
    base_seconds: float = Field(default=0.2, ge=0, le=60, description="Shortest wait before.")
    max_seconds: float = Field(default=5, ge=0, le=600, description="Longest wait before.")
    wait_seconds: float = Field(
        default=30,
        ge=0,
        le=3_600,
        description="Longest wait for a moment that an upstream has named, as in Retry-After.",
    )
    budget_share: float = Field(
        default=0.2, ge=0, le=1, description="How much load retries may add, over time."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Retries:
        if self.base_seconds > self.max_seconds:
            raise ValueError("`base_seconds` is more than `max_seconds`")
        return self


class Hedge(Written):
    """A second attempt beside one that is late."""

    percentile: float = Field(
        default=95,
        ge=50,
        lt=100,
        description="Late is what takes longer than so many percent of the deployment's recent "
        "answers.",
    )
    budget_share: float = Field(
        default=0.05, gt=0, le=1, description="How many more attempts hedges may add, over time."
    )
    min_seconds: float = Field(
        default=0.1, ge=0, le=600, description="What comes sooner is never late."
    )
    models: bool = Field(
        default=False,
        description="Whether the plan's next models may be asked where the same one has no other "
        "deployment that can.",
    )


class Breaker(Written):
    """When a deployment is left alone for a while because it fails or is slow."""

    window_seconds: float = Field(default=30, ge=1, le=3_600, description="What is looked at.")
    min_requests: int = Field(
        default=10, ge=1, le=100_000, description="Fewer in the window say nothing."
    )
    error_ratio: float = Field(default=0.5, gt=0, le=1, description="From here on it opens.")
    slow_seconds: Seconds | None = Field(
        default=None, description="A stream whose first event comes later is slow."
    )
    slow_ratio: float = Field(default=0.8, gt=0, le=1, description="From here on it opens, too.")
    open_seconds: Seconds = Field(
        default=5, description="How long at first; doubled each time that it does not recover."
    )
    max_open_seconds: Seconds = 120
    probes: int = Field(
        default=3, ge=1, le=100, description="Good answers, one at a time, that close it again."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Breaker:
        if self.open_seconds > self.max_open_seconds:
            raise ValueError("`open_seconds` is more than `max_open_seconds`")
        return self


class DeploymentLimits(Written):
    """What its provider allows; kept to before it refuses."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=100_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000_000)
    parallel_requests: int | None = Field(default=None, ge=1, le=1_000_000)


class Deployment(Written):
    """One of several places where a model is served."""

    upstream: Name
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Its id there; the model's name if absent.",
    )
    weight: float = Field(
        default=1,
        ge=0,
        le=1_000_000,
        description="Its part of the requests among those of its priority; 0 only if no other can.",
    )
    priority: int = Field(
        default=0, ge=0, le=1_000, description="Lower first; the others when none of these can."
    )
    region: Name | None = Field(default=None, description="For people: where it is.")
    prices: PricesOrLists | None = Field(
        default=None, description="Its own, where it does not cost what the model does."
    )
    limits: DeploymentLimits | None = None


Balance = Literal["weighted", "least-busy", "least-latency"]
