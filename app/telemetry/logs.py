"""The log. Messages name requests by id and never hold prompts, keys or bodies."""

from __future__ import annotations

import logging
from time import monotonic

from app.errors import UpstreamError

log = logging.getLogger("pointsman")

_QUIET_SECONDS = 1.0


def configure(level: str = "INFO") -> None:
    """Send the log to standard error, a line a message."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


class Sparse:
    """At most one message a second for each key, which then tells how many were left out."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, ...], float] = {}
        self._left_out: dict[tuple[str, ...], int] = {}

    def allows(self, *key: str) -> str | None:
        """None to stay silent; else what to append to the message."""
        now = monotonic()
        if now - self._last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return None
        self._last[key] = now
        left_out = self._left_out.pop(key, 0)
        return f" ({left_out} more like this were left out)" if left_out else ""


_attempts = Sparse()


def attempt_failed(request_id: str, upstream: str, model: str, error: UpstreamError) -> None:
    """An upstream failed; in an outage a line a second, not a line a request."""
    more = _attempts.allows(upstream, model, error.outcome)
    if more is not None:
        cause = f": {type(error.__cause__).__name__}" if error.__cause__ else ""
        log.warning(
            "request %s, model %s: %s [%s%s]%s",
            request_id, model, error.message, error.outcome, cause, more,
        )  # fmt: skip
