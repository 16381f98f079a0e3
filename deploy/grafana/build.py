"""Writes Pointsman's Grafana dashboards: `python -m deploy.grafana.build`.

A test holds the JSON to what this writes, and runs every query against a Prometheus that has
scraped a gateway under traffic.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from deploy.grafana.cost import cost
from deploy.grafana.routing import routing
from deploy.grafana.service import service

FOLDER = Path(__file__).parent / "dashboards"


def build() -> dict[str, bytes]:
    """File names and what is in them."""
    dashboards = {"cost": cost(), "service": service(), "routing": routing()}
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {f"{name}.json": orjson.dumps(one, option=options) for name, one in dashboards.items()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, content in build().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
