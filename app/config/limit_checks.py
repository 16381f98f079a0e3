"""Limits that could not be kept, or not as they are meant."""

from __future__ import annotations

from collections.abc import Iterator

from app.config.document import KeyPath
from app.config.load import Loaded
from app.config.schema import Config, Limits, Model
from app.errors import Problem

_BUDGETS = ("usd_per_day", "usd_per_week", "usd_per_month", "usd_in_all")


def problems(loaded: Loaded) -> Iterator[Problem]:
    """Budgets that nothing could ever be counted against."""
    if any(_has_prices(model) for model in loaded.config.models.values()):
        return
    for path, limits in written(loaded.config):
        if budget := _budget(limits):
            yield loaded.document.problem(
                (*path, budget), "no model has prices, so nothing could be counted", "`prices`"
            )


def doubts(loaded: Loaded, workers: int) -> Iterator[Problem]:
    """What is valid and yet probably not meant."""
    config, problem = loaded.config, loaded.document.problem
    any_limits = False
    for path, limits in written(config):
        any_limits = True
        if not limits.model_fields_set - {"soft_share"}:
            yield problem(path, "nothing is limited")
    if any_limits and workers > 1 and config.redis is None:
        yield problem(
            ("server", "workers"),
            f"without `redis` each of the {workers} workers has an equal part of every limit",
        )
    has_budgets = any(_budget(limits) for _, limits in written(config))
    for name, route in config.routes.items():
        if route.when_budget_low is not None and not has_budgets:
            yield problem(
                ("routes", name, "when_budget_low"), "only the budgets of keys can bring it about"
            )
    if has_budgets:
        for name, model in config.models.items():
            if not _has_prices(model):
                yield problem(
                    ("models", name),
                    "budgets count its requests at the dearest prices of this file",
                    "give it `prices`",
                )


def written(config: Config) -> Iterator[tuple[KeyPath, Limits]]:
    """Every limits section of a file, with its path."""
    if config.limits is not None:
        yield ("limits",), config.limits
    for name, route in config.routes.items():
        if route.limits is not None:
            yield ("routes", name, "limits"), route.limits
    for name, tag in config.tags.items():
        yield ("tags", name, "limits"), tag.limits


def _has_prices(model: Model) -> bool:
    if model.prices is not None:
        return True
    return any(each.prices is not None for each in model.deployments or ())


def _budget(limits: Limits) -> str | None:
    return next((name for name in _BUDGETS if getattr(limits, name) is not None), None)
