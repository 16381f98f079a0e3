"""A model as serving sees it: compiled from the YAML, immutable, money in nano-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.catalog.prices import PriceBook, Prices, compile_prices
from app.config import schema

__all__ = ["Balance", "Deployment", "DeploymentLimits", "Model", "Prices"]

Balance = Literal["weighted", "least-busy", "least-latency"]


@dataclass(frozen=True, slots=True)
class DeploymentLimits:
    """What its provider allows a deployment; None is not limited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model is served. `name` is unique in a configuration: the model's, or where
    it has several `model/upstream`, or `model/upstream/id` where one upstream has it twice."""

    name: str
    upstream: str
    upstream_id: str
    prices: PriceBook | None = field(default=None, hash=False)
    weight: float = 1.0
    priority: int = 0
    region: str | None = None
    limits: DeploymentLimits | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalog. `capabilities` is None where the YAML does not say.

    `upstream` and `upstream_id` are those of its first deployment, and often its only one.
    """

    name: str
    upstream: str
    upstream_id: str
    prices: PriceBook | None = field(default=None, hash=False)
    context_window: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    like: str | None = None
    quality: float | None = None
    balance: Balance = "weighted"
    deployments: tuple[Deployment, ...] = field(default=(), hash=False, compare=False)

    def __post_init__(self) -> None:
        if not self.deployments:
            only = Deployment(self.name, self.upstream, self.upstream_id, self.prices)
            object.__setattr__(self, "deployments", (only,))

    def prices_at(self, deployment: str | None) -> PriceBook | None:
        """What a call costs where a deployment served it; None is the only one."""
        if deployment is None:
            return self.deployments[0].prices
        return next((d.prices for d in self.deployments if d.name == deployment), self.prices)

    def place(self, deployment: str) -> Deployment:
        """Its deployment of this name."""
        return next(each for each in self.deployments if each.name == deployment)

    @classmethod
    def compile(
        cls, name: str, written: schema.Model, ready: Mapping[str, PriceBook] | None = None
    ) -> Model:
        """`ready` are the prices of deployments for which the YAML states none, by name."""
        stated = compile_prices(written.prices)
        deployments = tuple(
            _deployment(place, each, stated, ready or {}) for place, each in written.places(name)
        )
        first, capabilities = deployments[0], written.capabilities
        return cls(
            name=name,
            upstream=first.upstream,
            upstream_id=first.upstream_id,
            prices=stated or first.prices,
            context_window=written.context_window,
            max_output=written.max_output,
            capabilities=None if capabilities is None else frozenset(capabilities),
            like=written.like,
            quality=written.quality,
            balance=written.balance,
            deployments=deployments,
        )


def _deployment(
    name: str,
    written: schema.Deployment,
    of_model: PriceBook | None,
    ready: Mapping[str, PriceBook],
) -> Deployment:
    limits = written.limits
    own = compile_prices(written.prices)
    if own is None:
        # `auto` insists on what is ready, whatever the model's prices are.
        own = ready.get(name) if written.prices == "auto" else of_model or ready.get(name)
    return Deployment(
        name=name,
        upstream=written.upstream,
        upstream_id=written.id or "",
        prices=own,
        weight=written.weight,
        priority=written.priority,
        region=written.region,
        limits=None if limits is None else _compiled(limits),
    )


def _compiled(written: schema.DeploymentLimits) -> DeploymentLimits:
    return DeploymentLimits(
        written.requests_per_minute, written.tokens_per_minute, written.parallel_requests
    )
