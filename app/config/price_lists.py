"""Order inside price lists: which one is in force must never be a question.

Works on the plain values, as `references` does, so that each mistake is told with its own line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from app.config.document import Document, KeyPath
from app.config.references import section
from app.errors import Problem


def check(document: Document) -> list[Problem]:
    """Dates that overlap or go back, sizes that don't rise, service tiers named twice."""
    found: list[Problem] = []
    for name, model in section(document.values, "models").items():
        found += _prices(document, ("models", name, "prices"), model.get("prices"))
        deployments = model.get("deployments")
        for i, entry in enumerate(deployments if isinstance(deployments, list) else ()):
            if isinstance(entry, dict):
                path = ("models", name, "deployments", i, "prices")
                found += _prices(document, path, entry.get("prices"))
    return found


def _prices(document: Document, path: KeyPath, prices: Any) -> Iterator[Problem]:
    if isinstance(prices, list):
        yield from _dates(document, path, prices)
    for place, each in enumerate(prices if isinstance(prices, list) else [prices]):
        if isinstance(each, dict):
            inside = (*path, place) if isinstance(prices, list) else path
            yield from _sizes(document, inside, each)
            yield from _services(document, inside, each)


def _dates(document: Document, path: KeyPath, lists: list[Any]) -> Iterator[Problem]:
    last: date | None = None
    for place, each in enumerate(lists):
        written = each.get("from") if isinstance(each, dict) else None
        if written is None:
            if place:
                yield document.problem(
                    (*path, place),
                    "`from` is required: only the first list may hold since ever",
                    "the first day of these prices, such as 2026-07-01",
                )
            continue
        day = _day(written)
        if day is None:
            continue  # the schema says so
        if last is not None and day <= last:
            yield document.problem(
                (*path, place, "from"),
                f"{day} is {'listed twice' if day == last else f'before {last}, listed above'}",
                "each list holds from its day until the next one's: oldest first",
            )
        last = day if last is None else max(day, last)


def _day(written: Any) -> date | None:
    try:
        return written if isinstance(written, date) else date.fromisoformat(str(written))
    except ValueError:
        return None


def _sizes(document: Document, path: KeyPath, prices: Mapping[str, Any]) -> Iterator[Problem]:
    last = 0
    tiers = prices.get("tiers")
    for place, tier in enumerate(tiers if isinstance(tiers, list) else ()):
        above = tier.get("above_tokens") if isinstance(tier, dict) else None
        if type(above) is not int:
            continue
        if place and above <= last:
            yield document.problem(
                (*path, "tiers", place, "above_tokens"),
                f"{above} does not rise above {last}, listed before",
                "shortest first",
            )
        last = max(last, above)


def _services(document: Document, path: KeyPath, prices: Mapping[str, Any]) -> Iterator[Problem]:
    services = prices.get("service_tiers")
    taken: set[str] = set()
    for name, tier in services.items() if isinstance(services, dict) else ():
        if name.lower() in taken:
            yield document.problem((*path, "service_tiers", name), f"`{name}` is listed twice")
        taken.add(name.lower())
        if isinstance(tier, dict):
            yield from _sizes(document, (*path, "service_tiers", name), tier)
