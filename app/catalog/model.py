"""A model as serving sees it: compiled from the YAML, immutable, money in nano-dollars."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.catalog.prices import PriceBook, Prices, compile_prices
from app.config import schema

__all__ = ["Model", "Prices"]


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalog. `capabilities` is None where the YAML does not say."""

    name: str
    upstream: str
    upstream_id: str
    prices: PriceBook | None = field(default=None, hash=False)
    context_window: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    like: str | None = None
    quality: float | None = None

    @classmethod
    def compile(cls, name: str, written: schema.Model, ready: PriceBook | None = None) -> Model:
        """`ready` are the prices where the YAML states none."""
        capabilities = written.capabilities
        return cls(
            name=name,
            upstream=written.upstream,
            upstream_id=written.id or name,
            prices=compile_prices(written.prices) or ready,
            context_window=written.context_window,
            max_output=written.max_output,
            capabilities=None if capabilities is None else frozenset(capabilities),
            like=written.like,
            quality=written.quality,
        )
