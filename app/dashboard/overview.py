"""Everything on the page but the decisions: sums, series and percentiles, from the buckets.

Rows come in small pages, each folded before the next is read, so that the event loop has its turn
in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from app.accounting import backfill
from app.accounting.buckets import Detail, merge, percentile
from app.accounting.database import Database
from app.accounting.tables import MEASURES, buckets
from app.dashboard.span import Wanted
from app.exchange.money import NANO_PER_DOLLAR, usd_text
from app.exchange.record import HEDGED_AWAY

_PAGE = 100
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_TIMES = ("duration", "first_token", "overhead")


@dataclass(slots=True)
class Tally:
    """Buckets added up."""

    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEASURES, 0))
    detail: Detail = field(default_factory=dict)

    def add(self, row: Any) -> None:
        self.count(row)
        merge(self.detail, row["detail"])

    def count(self, row: Any) -> None:
        for name in MEASURES:
            self.sums[name] += row[name]


@dataclass(slots=True)
class Group:
    """Of one model or route: its sums, and its requests by step."""

    tally: Tally = field(default_factory=Tally)
    requests: dict[int, int] = field(default_factory=dict)

    def count(self, step: int, row: Any) -> None:
        self.tally.count(row)
        self.requests[step] = self.requests.get(step, 0) + row["requests"]


async def overview(database: Database, wanted: Wanted) -> dict[str, Any]:
    """What the page shows of a span; JSON-ready, money in dollars as text, times in seconds."""
    span = wanted.span
    steps: dict[int, Tally] = {}
    models: dict[str, Group] = {}
    routes: dict[str, Group] = {}
    names: dict[str, set[str]] = {"routes": set(), "models": set()}
    statement = select(buckets).where(
        buckets.c.span_seconds == span.bucket_seconds,
        buckets.c.start_us >= span.since * 1_000_000,
        buckets.c.start_us < span.until * 1_000_000,
    )
    async with database.read() as connection:
        complete_from = await backfill.reached_in(connection)
        found = await connection.stream(statement)
        async for page in found.mappings().partitions(_PAGE):
            for row in page:
                names["routes"].add(row["route"])
                names["models"].add(row["model"])
                if not wanted.admits(row["route"], row["model"]):
                    continue
                start = row["start_us"] // 1_000_000
                step = start - (start - span.since) % span.step_seconds
                steps.setdefault(step, Tally()).add(row)
                models.setdefault(row["model"], Group()).count(step, row)
                routes.setdefault(row["route"], Group()).count(step, row)
    total = Tally()
    for tally in steps.values():
        total.count(tally.sums)
        merge(total.detail, tally.detail)
    starts = span.starts
    return {
        "since": span.since,
        "until": span.until,
        "step_seconds": span.step_seconds,
        # Null but for a while after an upgrade, in which older sums are still made.
        "complete_from": None if complete_from is None else complete_from // 1_000_000,
        "names": {kind: sorted(some) for kind, some in names.items()},
        "total": _total(total),
        "latency": {name: _percentiles(total.detail, name) for name in _TIMES},
        "starts": list(starts),
        "series": _series([steps.get(start) for start in starts]),
        "models": _groups(models, starts),
        "routes": _groups(routes, starts),
        "upstreams": _upstreams(total.detail.get("attempts", {})),
    }


def _total(tally: Tally) -> dict[str, Any]:
    sums, detail = tally.sums, tally.detail
    counts = {name: value for name, value in sums.items() if not name.endswith("_nano")}
    predicted = detail.get("predicted")
    statuses = detail.get("statuses", {})
    return {
        **counts,
        **_money(sums),
        "fallbacks": detail.get("decisions", {}).get("fallback", 0),
        "cached": detail.get("decisions", {}).get("cached", 0),
        "outcomes": detail.get("outcomes", {}),
        "decisions": detail.get("decisions", {}),
        "statuses": statuses,
        # Of the failed: what was wrong with the request, or over a limit.
        "refused": sum(count for status, count in statuses.items() if status.startswith("4")),
        "predicted": None
        if predicted is None
        else {
            "requests": predicted["requests"],
            "served": predicted["served"] / predicted["requests"],
            "best": predicted["best"] / predicted["requests"],
        },
    }


def _money(sums: dict[str, int]) -> dict[str, str | None]:
    """A cost of which nothing is known is null: that is not the same as 0."""
    unknown = sums["unpriced"] and not sums["cost_nano"]
    return {
        "cost_usd": None if unknown else usd_text(sums["cost_nano"]),
        "baseline_usd": usd_text(sums["baseline_cost_nano"]),
        "saved_usd": usd_text(sums["saved_nano"]),
    }


def _percentiles(detail: Detail, name: str) -> dict[str, Any]:
    bins = detail.get(name, {})
    return {
        "count": sum(bins.values()),
        **{word: percentile(bins, share) for word, share in _SHARES.items()},
    }


def _series(steps: list[Tally | None]) -> dict[str, Any]:
    def sums(name: str) -> list[int]:
        return [0 if tally is None else tally.sums[name] for tally in steps]

    def dollars(name: str) -> list[float]:
        return [nano / NANO_PER_DOLLAR for nano in sums(name)]

    def times(name: str) -> dict[str, list[float | None]]:
        bins = [{} if tally is None else tally.detail.get(name, {}) for tally in steps]
        return {
            word: [percentile(one, share) if one else None for one in bins]
            for word, share in _SHARES.items()
        }

    decided = [{} if tally is None else tally.detail.get("decisions", {}) for tally in steps]
    predicted = [None if tally is None else tally.detail.get("predicted") for tally in steps]
    return {
        "requests": sums("requests"),
        "failed": sums("failed"),
        "fallbacks": [one.get("fallback", 0) for one in decided],
        "cost_usd": dollars("cost_nano"),
        # What is not routed, or of unknown cost, has no baseline: it is in both lines or in none.
        "unrouted_usd": [
            cost + saved
            for cost, saved in zip(dollars("cost_nano"), dollars("saved_nano"), strict=True)
        ],
        "quality": [None if not one else one["served"] / one["requests"] for one in predicted],
        "quality_best": [None if not one else one["best"] / one["requests"] for one in predicted],
        **{name: times(name) for name in _TIMES},
    }


def _groups(groups: dict[str, Group], starts: range) -> list[dict[str, Any]]:
    """The busiest first."""
    ordered = sorted(groups.items(), key=lambda item: (-item[1].tally.sums["requests"], item[0]))
    return [
        {
            "name": name,
            "requests": group.tally.sums["requests"],
            "failed": group.tally.sums["failed"],
            **_money(group.tally.sums),
            "series": [group.requests.get(start, 0) for start in starts],
        }
        for name, group in ordered
    ]


def _upstreams(attempts: Detail) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "attempts": sum(told["outcomes"].values()),
            # A client that left is no fault of the upstream; being slower than another neither.
            "failed": sum(
                count
                for outcome, count in told["outcomes"].items()
                if outcome not in ("ok", "client_gone", HEDGED_AWAY)
            ),
            "outcomes": told["outcomes"],
            **_percentiles(told, "seconds"),
        }
        for name, told in sorted(attempts.items())
    ]
