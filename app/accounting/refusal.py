"""What a caller is told of its limits: refusals, rates left, and budgets that run low.

A limit is named by its scope and its key in the YAML. Amounts of money are told only of the
caller's own key; a key or its id never is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from app.errors import BudgetExhausted, BudgetReserved, LimitReached, TooManyAtOnce
from app.exchange.money import usd_text
from app.exchange.reply import Headers
from app.state.base import NEVER, Ask, Kind, Limit, Reading
from app.state.memory import MINUTE_SECONDS

Scope = Literal["gateway", "route", "tag", "key"]

_RESERVED_WAIT_SECONDS = 1
_DO_NOT_RETRY = ("x-should-retry", "false")
"""OpenAI's SDKs retry every 429 but for this."""
_METRIC_KINDS: dict[Kind, str] = {
    "usd": "budget", "requests": "requests", "tokens": "tokens", "parallel": "parallel",
}  # fmt: skip


class Named(NamedTuple):
    """A limit with its place in the configuration. `name` is that of the route or tag."""

    limit: Limit
    scope: Scope
    name: str
    field: str
    soft_share: float

    @property
    def title(self) -> str:
        return f"{self.scope}:{self.name}" if self.name else self.scope

    @property
    def owner(self) -> str:
        """For a sentence."""
        match self.scope:
            case "gateway":
                return "the gateway"
            case "key":
                return "this key"
        return f"{self.scope} `{self.name}`"

    @property
    def kind(self) -> str:
        """For metrics."""
        return _METRIC_KINDS[self.limit.kind]


def refusal(
    refused: Sequence[tuple[Named, Reading]], ask: Ask, now: float, headers: Headers
) -> tuple[LimitReached, Named]:
    """The error for a request that some limits have no room for, and the limit that it names: the
    one that takes longest to wait for. `headers` go with it."""
    waits = [_wait(named, reading, ask, now) for named, reading in refused]
    longest = max(range(len(waits)), key=waits.__getitem__)
    named, reading = refused[longest]
    wait = waits[longest]
    headers = list(headers)
    if wait < NEVER:
        headers.append(("retry-after", str(max(math.ceil(wait), 1))))
    kind, message = _words(named, reading, ask)
    if kind is BudgetExhausted or wait == NEVER:
        headers.append(_DO_NOT_RETRY)
    return kind(message, limit=f"{named.title} {named.field}", headers=headers), named


def _wait(named: Named, reading: Reading, ask: Ask, now: float) -> float:
    if named.limit.kind != "usd":
        return reading.wait
    if not _exhausted(reading, ask):
        return _RESERVED_WAIT_SECONDS
    until = named.limit.until
    return NEVER if until is None else max(until - now, 0.0)


def _exhausted(reading: Reading, ask: Ask) -> bool:
    """No room even if all that runs turned out to cost nothing."""
    return reading.settled + max(ask.usd, 1) > reading.ceiling


def _words(named: Named, reading: Reading, ask: Ask) -> tuple[type[LimitReached], str]:
    owner, field = named.owner, named.field
    match named.limit.kind:
        case "usd" if not _exhausted(reading, ask):
            return BudgetReserved, (
                f"What is left of `{field}` of {owner} is reserved by requests that still run."
            )
        case "usd" if reading.settled >= reading.ceiling:
            return BudgetExhausted, f"The budget `{field}` of {owner} is used up."
        case "usd":
            amounts = ""
            if named.scope == "key":
                left = usd_text(int(reading.ceiling - reading.settled))
                amounts = f": up to ${usd_text(ask.usd)}, and ${left} is left"
            return BudgetExhausted, (
                f"This request may cost more than is left of `{field}` of {owner}{amounts}. "
                "A shorter prompt or a lower `max_tokens` may fit."
            )
        case "parallel":
            return TooManyAtOnce, (
                f"{owner[0].upper()}{owner[1:]} has {reading.ceiling} requests running, "
                f"the limit `{field}`."
            )
        case "tokens" if reading.wait == NEVER:
            return LimitReached, (
                f"This request asks for about {ask.tokens} tokens, more than the {reading.ceiling} "
                f"a minute of `{field}` of {owner}."
            )
    return LimitReached, (
        f"The limit `{field}` of {owner}, {reading.ceiling} a minute, is reached."
    )


def rate_headers(readings: Iterable[tuple[Named, Reading]]) -> Headers:
    """OpenAI's `x-ratelimit-*` headers, each of the limit with the least left."""
    least: dict[Kind, tuple[float, Reading]] = {}
    for named, reading in readings:
        kind = named.limit.kind
        if kind == "requests" or kind == "tokens":
            left = reading.ceiling - reading.used
            if kind not in least or left < least[kind][0]:
                least[kind] = (left, reading)
    headers: Headers = []
    for kind, (left, reading) in least.items():
        full = reading.used * MINUTE_SECONDS / reading.ceiling
        headers += [
            (f"x-ratelimit-limit-{kind}", str(reading.ceiling)),
            (f"x-ratelimit-remaining-{kind}", str(max(math.floor(left), 0))),
            (f"x-ratelimit-reset-{kind}", duration(full)),
        ]
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `7s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def low(readings: Iterable[tuple[Named, Reading]]) -> list[tuple[Named, float]]:
    """Budgets whose soft share is spent, with the share that is."""
    return [
        (named, reading.settled / max(reading.ceiling, 1))
        for named, reading in readings
        if named.limit.kind == "usd"
        and reading.used - reading.held >= named.soft_share * reading.ceiling
    ]


def warning(budgets: Iterable[tuple[Named, float]]) -> str:
    """The value of `x-pointsman-budget-warning`: `key usd_per_day 0.83, gateway ...`."""
    return ", ".join(f"{named.title} {named.field} {share:.2f}" for named, share in budgets)
