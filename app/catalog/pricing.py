"""What `pointsman check` says of prices, beyond their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from app.catalog.model import Model
from app.catalog.prices import today
from app.config import schema
from app.config.document import KeyPath
from app.config.load import Loaded
from app.errors import Problem

_PER_TOKEN = Decimal("0.001")
"""Dollars per million tokens that nobody asks: who writes less means dollars per token."""


def problems(loaded: Loaded, models: Mapping[str, Model]) -> Iterator[Problem]:
    """What `strict_prices` refuses: models whose prices are not known today."""
    if not loaded.config.strict_prices:
        return
    for name, model in models.items():
        if model.prices is None or model.prices.on(today()) is None:
            yield loaded.document.problem(
                ("models", name),
                "its prices are not known, and `strict_prices` is on",
                "give it `prices:`; free is written as 0",
            )


def doubts(loaded: Loaded, models: Mapping[str, Model]) -> Iterator[Problem]:
    """What is valid and yet probably not meant."""
    for name, model in models.items():
        if model.prices is None:
            yield loaded.document.problem(
                ("models", name), "no prices: its cost is unknown, it is chosen last"
            )
        elif model.prices.on(today()) is None:
            yield loaded.document.problem(
                ("models", name, "prices"), "none of its prices holds today: its cost is unknown"
            )
    for path, prices in _written(loaded):
        if 0 < max(prices.input, prices.output) < _PER_TOKEN:
            yield loaded.document.problem(
                path, "far below any model's", "dollars per million tokens"
            )
        if prices.cached_input is not None and prices.cached_input > prices.input:
            yield loaded.document.problem(
                (*path, "cached_input"), "dearer than input that is not cached"
            )


def _written(loaded: Loaded) -> Iterator[tuple[KeyPath, schema.Prices]]:
    for name, model in loaded.config.models.items():
        path: KeyPath = ("models", name, "prices")
        if isinstance(model.prices, schema.Prices):
            yield path, model.prices
        elif isinstance(model.prices, list):
            yield from (((*path, place), each) for place, each in enumerate(model.prices))
