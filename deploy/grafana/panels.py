"""The few kinds of Grafana panel that Pointsman's dashboards are made of, and their layout.

The dashboards are written in Python and kept as JSON (`python -m deploy.grafana.build`): a panel is
then one line about what it shows, and a review reads lines, not coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """`unit` is Grafana's name of one; `width` is of 24 columns."""

    title: str
    about: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    thresholds: Sequence[tuple[float | None, str]] = ((None, "green"),)
    words: Sequence[tuple[int, str, str]] = ()
    """What whole numbers mean, and in which colour."""

    def as_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": DATASOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend or "__auto",
                    "instant": self.kind in ("stat", "bargauge", "piechart"),
                    "range": self.kind in ("timeseries", "heatmap", "state-timeline"),
                    "format": "heatmap" if self.kind == "heatmap" else "time_series",
                }
                for place, query in enumerate(self.queries)
            ],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _OPTIONS[self.kind],
        }

    def _defaults(self) -> dict[str, Any]:
        steps = [{"value": value, "color": color} for value, color in self.thresholds]
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
        }
        if self.kind == "timeseries":
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"] = {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 30 if self.stacked else 8,
                "showPoints": "never",
                "stacking": {"mode": "normal" if self.stacked else "none"},
            }
        elif self.kind in ("stat", "state-timeline"):
            defaults["color"] = {"mode": "thresholds"}
        else:
            defaults["color"] = {"mode": "palette-classic"}
        if self.words:
            options = {
                str(value): {"text": text, "color": color, "index": place}
                for place, (value, text, color) in enumerate(self.words)
            }
            defaults["mappings"] = [{"type": "value", "options": options}]
        return defaults


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _LAST, "colorMode": "value", "graphMode": "none"},
    "bargauge": {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic"},
    "piechart": {
        "reduceOptions": _LAST,
        "pieType": "donut",
        "legend": {"displayMode": "table", "placement": "right", "values": ["value", "percent"]},
    },
    "state-timeline": {
        "showValue": "never",
        "mergeValues": True,
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    },
    "heatmap": {"calculate": False, "yAxis": {"unit": "short"}, "cellGap": 1},
}


def stat(title: str, about: str, expr: str, unit: str = "short", **more: Any) -> Panel:
    """One figure over the time that is shown."""
    return Panel(title, about, [Query(expr)], kind="stat", unit=unit, width=4, height=4, **more)


def quantiles(title: str, about: str, histogram: str, where: str, width: int = 12) -> Panel:
    """The median, p95 and p99 of a histogram of seconds."""
    queries = [
        Query(
            f"histogram_quantile({share}, "
            f"sum by (le) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))",
            name,
        )
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    return Panel(title, about, queries, unit="s", width=width)


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values that a label has."""

    name: str
    metric: str

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "label": self.name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "query": f"label_values({self.metric}, {self.name})",
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "sort": 1,
            "current": {"text": "All", "value": "$__all"},
        }


def dashboard(
    uid: str, title: str, variables: Iterable[Variable], panels: Iterable[Panel]
) -> dict[str, Any]:
    """The JSON of a dashboard, its panels set left to right and top to bottom."""
    placed: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y, row = 0, y + row, 0
        placed.append(panel.as_json(number, x, y))
        x, row = x + panel.width, max(row, panel.height)
    choose = {"name": "datasource", "label": "Data", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["pointsman"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["pointsman"],
                "title": "Pointsman",
                "asDropdown": False,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "templating": {"list": [choose, *(variable.as_json() for variable in variables)]},
        "panels": placed,
    }
