"""What `pointsman check` says of prices, beyond their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from app.catalog.model import Model
from app.catalog.prices import PriceBook, today
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
        for path, _, prices in _deployments(name, model):
            if prices is None or prices.on(today()) is None:
                yield loaded.document.problem(
                    path,
                    "its prices are not known, and `strict_prices` is on",
                    "give it `prices:`; free is written as 0",
                )


def doubts(loaded: Loaded, models: Mapping[str, Model]) -> Iterator[Problem]:
    """What is valid and yet probably not meant."""
    for name, model in models.items():
        for path, first, prices in _deployments(name, model):
            if prices is None:
                last = ", it is chosen last" if first else ""
                yield loaded.document.problem(path, f"no prices: its cost is unknown{last}")
            elif prices.on(today()) is None:
                stated = loaded.config.models[name].prices is not None
                yield loaded.document.problem(
                    ("models", name, "prices") if stated else path,
                    "none of its prices holds today: its cost is unknown",
                )
    for path, each in _written(loaded):
        if 0 < max(each.input, each.output) < _PER_TOKEN:
            yield loaded.document.problem(
                path, "far below any model's", "dollars per million tokens"
            )
        if each.cached_input is not None and each.cached_input > each.input:
            yield loaded.document.problem(
                (*path, "cached_input"), "dearer than input that is not cached"
            )


def _deployments(name: str, model: Model) -> Iterator[tuple[KeyPath, bool, PriceBook | None]]:
    """Where each stands in the file, whether it is the one to choose by, and its prices."""
    if len(model.deployments) == 1:
        yield ("models", name), True, model.prices
        return
    for place, deployment in enumerate(model.deployments):
        yield ("models", name, "deployments", place), not place, deployment.prices


def _written(loaded: Loaded) -> Iterator[tuple[KeyPath, schema.Prices]]:
    for name, model in loaded.config.models.items():
        yield from _lists(("models", name, "prices"), model.prices)
        for place, each in enumerate(model.deployments or ()):
            yield from _lists(("models", name, "deployments", place, "prices"), each.prices)


def _lists(
    path: KeyPath, prices: schema.PricesOrLists | None
) -> Iterator[tuple[KeyPath, schema.Prices]]:
    if isinstance(prices, schema.Prices):
        yield path, prices
    elif isinstance(prices, list):
        yield from (((*path, place), each) for place, each in enumerate(prices))
