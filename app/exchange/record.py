"""The record of one request: what was decided, what was tried, what came out, what it cost.

Filled in as the request goes its way, and settled once: metrics, headers and the ledger all read
from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.exchange.usage import Usage


@dataclass(slots=True)
class Attempt:
    """One call to an upstream. `outcome` is `ok` or one of the outcomes in `app.errors`."""

    upstream: str
    model: str
    outcome: str
    seconds: float
    status: int | None = None


@dataclass(slots=True)
class Record:
    """One request, from its first byte to its last. Money in nano-dollars, None if unknown.

    Seconds are durations: `decide_seconds` includes encoding, `upstream_seconds` is the time
    spent waiting for upstreams, `first_token_seconds` from the request to the first event.
    """

    request_id: str
    requested_model: str
    stream: bool
    started: float
    route: str = "none"
    decision: str = "none"
    reason: str = "none"
    model: str | None = None
    upstream: str | None = None
    status: int = 0
    outcome: str = "error"
    error_code: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    cost: int | None = None
    baseline_cost: int | None = None
    duration_seconds: float = 0.0
    decide_seconds: float = 0.0
    upstream_seconds: float = 0.0
    first_token_seconds: float | None = None

    @property
    def saved(self) -> int | None:
        """Against the baseline with the same usage; negative where the choice cost more."""
        if self.cost is None or self.baseline_cost is None:
            return None
        return self.baseline_cost - self.cost
