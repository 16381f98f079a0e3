"""Quality against cost, as the router itself predicted both for the requests that came.

Each request's predictions say what every candidate was expected to be worth and to cost. Whoever
weighs a dollar at some worth would have chosen the candidate with the highest quality less cost;
sweeping that worth from nothing to everything draws the curve on which the routes could stand, and
what was really chosen is the operating point. Expectations all, on both axes: what is compared is
the choice, not the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from app.accounting.database import Database
from app.accounting.tables import requests
from app.dashboard.decisions import newest
from app.dashboard.span import Wanted
from app.exchange.money import NANO_PER_DOLLAR

SAMPLE = 2_000
"""So many of the newest requests are looked at."""
_LOOKED_AT = 4_000
_PAGE = 100
_POINTS = 40

Floats = NDArray[np.float64]


async def tradeoff(database: Database, wanted: Wanted) -> dict[str, Any]:
    """The curve, the operating point, and each candidate on its own; JSON-ready.

    Cost is in dollars a request. `point` is null and the lists are empty where no request of the
    span was predicted at a known cost.
    """
    rows: list[tuple[str, Mapping[str, tuple[float, float]]]] = []
    columns = select(requests.c.model, requests.c.predictions)
    statement = newest(columns, wanted, None).limit(_LOOKED_AT)
    async with database.read() as connection:
        found = await connection.stream(statement)
        async for page in found.partitions(_PAGE):
            for model, predictions in page:
                able = {
                    one["model"]: (one["quality"], one["cost"] / NANO_PER_DOLLAR)
                    for one in predictions
                    if one["eligible"] and one["cost"] is not None
                }
                if model in able and len(able) > 1:
                    rows.append((model, able))
            if len(rows) >= SAMPLE:
                break
    rows = rows[:SAMPLE]
    if not rows:
        return {"requests": 0, "point": None, "curve": [], "models": []}
    return {"requests": len(rows), **_drawn(rows)}


def _drawn(rows: Sequence[tuple[str, Mapping[str, tuple[float, float]]]]) -> dict[str, Any]:
    names = sorted({name for _, able in rows for name in able})
    quality = np.full((len(rows), len(names)), -np.inf)
    cost = np.zeros_like(quality)
    chosen = np.zeros(len(rows), dtype=np.intp)
    for at, (model, able) in enumerate(rows):
        chosen[at] = names.index(model)
        for name, told in able.items():
            column = names.index(name)
            quality[at, column], cost[at, column] = told
    alone = [
        {"name": name, **_mean(quality[:, at], cost[:, at])}
        for at, name in enumerate(names)
        if np.isfinite(quality[:, at]).all()
    ]
    return {
        "point": _picked(quality, cost, chosen),
        "curve": _curve(quality, cost),
        "models": alone,
    }


def _curve(quality: Floats, cost: Floats) -> list[dict[str, float]]:
    """From the cheapest choice of each request to the best one."""
    spread = cost[np.isfinite(quality)]
    dearest = float(spread.max()) or 1e-9
    cheapest = float(spread[spread > 0].min()) if (spread > 0).any() else dearest
    # Below a hundredth of a quality point for the dearest, a cost decides nothing but ties.
    weights = np.geomspace(1e-3 / dearest, 1e3 / cheapest, _POINTS)
    points: list[dict[str, float]] = []
    for weight in (0.0, *weights):
        # Among equals the cheapest.
        value = quality - max(weight, 1e-9 / dearest) * cost
        point = _picked(quality, cost, value.argmax(axis=1))
        if not points or point != points[-1]:
            points.append(point)
    return points[::-1]


def _picked(quality: Floats, cost: Floats, columns: NDArray[np.intp]) -> dict[str, float]:
    rows = np.arange(len(columns))
    return _mean(quality[rows, columns], cost[rows, columns])


def _mean(quality: Floats, cost: Floats) -> dict[str, float]:
    return {"quality": float(quality.mean()), "cost_usd": float(cost.mean())}
