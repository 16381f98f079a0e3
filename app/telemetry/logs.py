"""The log. Messages name requests by id and never hold prompts, keys or bodies."""

from __future__ import annotations

import logging

log = logging.getLogger("pointsman")


def configure(level: str = "INFO") -> None:
    """Send the log to standard error, a line a message."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
