"""Admission by limits: what a request may cost is reserved before it is served, of all its limits
at once, and settled for what it did cost.

A limit belongs to the gateway, a route, a tag or a key. Which of them a request meets is looked up
once a day for each kind of caller; then a reservation is one call to the shared state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import time
from typing import NamedTuple

from app.accounting.caller import Caller
from app.accounting.limits import Limits
from app.accounting.most import Most, Size
from app.accounting.periods import Period, PeriodName, periods
from app.accounting.refusal import Named, Scope, low, rate_headers, refusal, warning
from app.catalog.model import Model
from app.errors import LimitReached
from app.exchange.record import Attempt, Record
from app.exchange.reply import Headers
from app.state.base import Ask, Kind, Limit, Reading, State
from app.state.memory import MINUTE_SECONDS
from app.telemetry.metrics import Metrics

_REMEMBERED = 4_096
_NOTHING = Size(0, 0, 0)
_FRESH_SECONDS = 1.0
"""For so long what was seen refuses requests without a look at Redis, where an operator may have
taken it back."""
_BUDGETS: tuple[tuple[PeriodName, str, str], ...] = (
    ("day", "per_day", "usd_per_day"),
    ("week", "per_week", "usd_per_week"),
    ("month", "per_month", "usd_per_month"),
    ("all", "in_all", "usd_in_all"),
)
_OTHERS: tuple[tuple[Kind, str], ...] = (
    ("requests", "requests_per_minute"),
    ("tokens", "tokens_per_minute"),
    ("parallel", "parallel_requests"),
)


class Spent(NamedTuple):
    """What one scope had spent in a period, in nano-dollars: a row of the ledger. `name` is that of
    the route or tag, a key's id, or empty for the gateway."""

    scope: Scope
    name: str
    period: PeriodName
    nano: int


SpentSource = Callable[[Mapping[PeriodName, Period]], Awaitable[Iterable[Spent]]]
"""Gives what has been spent since the start of each of these periods."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The limits that one kind of request meets. False if there are none."""

    limits: tuple[Limit, ...]
    named: tuple[Named, ...]
    telling: tuple[Named, ...]
    """Those of which a look can tell that they are used up: money and requests."""
    looked_at: tuple[Limit, ...]
    """The limits of `telling`."""
    free: Applied | None = None
    """Those that a request meets which costs nothing and is answered at once; None if none."""

    def __bool__(self) -> bool:
        return bool(self.limits)


@dataclass(slots=True)
class Hold:
    """What a request has reserved, and what is to be said of it. Settled once."""

    id: str
    applied: Applied
    model: Model | None
    size: Size
    asked: Ask
    headers: Headers = field(default_factory=list)
    settled: bool = False


class Limiter:
    """Every limit of a gateway over one state. `own` are the limits that the YAML gives to the
    gateway, to routes, tags and keys; a key's come with its caller, and are here to be known of."""

    def __init__(
        self,
        state: State,
        own: Mapping[tuple[Scope, str], Limits],
        models: Iterable[Model],
        metrics: Metrics,
        clock: Callable[[], float] = time,
    ) -> None:
        self.state = state
        self._own = own
        self._models = {model.name: model for model in models}
        self._most = Most(self._models.values())
        self._metrics = metrics
        self._clock = clock
        self._applied: dict[tuple[str, int], tuple[Caller, Applied]] = {}
        self._periods = periods(clock())

    @property
    def has_budgets(self) -> bool:
        """Whether the gateway, a route or a tag has a budget."""
        return any(limits.is_budget for limits in self._own.values())

    def applied(self, caller: Caller, route: str) -> Applied:
        """The limits that a caller's request to a route meets."""
        until = self._periods["day"].until
        if until is not None and self._clock() >= until:
            self._periods = periods(self._clock())
            self._applied.clear()
        # By identity: a key has one caller, and comparing its limits would cost more than the rest.
        key = (route, id(caller))
        known = self._applied.get(key)
        if known is not None and known[0] is caller:
            return known[1]
        if len(self._applied) >= _REMEMBERED:
            self._applied.clear()
        named = tuple(self._named(caller, route))
        telling = tuple([one for one in named if one.limit.kind in ("usd", "requests")])
        applied = Applied(
            tuple([one.limit for one in named]),
            named,
            telling,
            tuple([one.limit for one in telling]),
            _counting(named),
        )
        self._applied[key] = (caller, applied)
        return applied

    def _named(self, caller: Caller, route: str) -> Iterator[Named]:
        scopes: list[tuple[Scope, str, str, Limits | None]] = [
            ("gateway", "", "", self._own.get(("gateway", ""))),
            ("route", route, route, self._own.get(("route", route))),
            *(("tag", tag, tag, self._own.get(("tag", tag))) for tag in dict.fromkeys(caller.tags)),
            # What is counted under the key's id is told under no name.
            ("key", caller.key_id or "", "", caller.limits),
        ]
        for scope, counted_as, name, limits in scopes:
            if limits is None:
                continue
            for period, attribute, yaml_key in _BUDGETS:
                ceiling = getattr(limits, attribute)
                if ceiling is not None:
                    limit = self._budget(scope, counted_as, period, ceiling)
                    yield Named(limit, scope, name, yaml_key, limits.soft_share)
            for kind, attribute in _OTHERS:
                ceiling = getattr(limits, attribute)
                if ceiling is not None:
                    limit = Limit(kind, f"{kind}:{scope}:{counted_as}", ceiling)
                    yield Named(limit, scope, name, attribute, limits.soft_share)

    def _budget(self, scope: Scope, name: str, period: PeriodName, ceiling: int) -> Limit:
        now = self._periods[period]
        return Limit("usd", f"usd:{scope}:{name}:{now.label}", ceiling, now.until)

    # --- a request's way ---------------------------------------------------------------------

    def foresee(self, applied: Applied) -> None:
        """Refuse at once what is sure to be refused, before anything is spent on deciding it.

        Raises LimitReached.
        """
        if not self.state.may_be_full(applied.looked_at, _FRESH_SECONDS):
            return
        refused = []
        for named in applied.telling:
            seen = self.state.peek(named.limit, _FRESH_SECONDS)
            if seen is None or seen.used < seen.ceiling - 1:
                continue
            if named.limit.kind == "usd":
                if seen.settled >= seen.ceiling:
                    refused.append((named, seen))
            elif (over := seen.used + 1 - seen.ceiling) > 0:
                refused.append((named, seen._replace(wait=over * MINUTE_SECONDS / seen.ceiling)))
        if refused:
            raise self._refused(refused, Ask(0, 0), rate_headers(refused))

    def low(self, applied: Applied) -> bool:
        """Whether a budget that the request meets is known to be spent to its soft share."""
        return any(
            (seen := self.state.peek(named.limit)) is not None and low([(named, seen)])
            for named in applied.named
            if named.limit.kind == "usd"
        )

    async def reserve(self, id_: str, applied: Applied, model: Model, size: Size) -> Hold:
        """Reserve the most that a call of a model may cost. Raises LimitReached."""
        return await self._reserve(id_, applied, model, size, self._most.ask(model, size))

    async def count(self, id_: str, applied: Applied, model: Model) -> Hold | None:
        """Count a request that costs nothing among those a minute; None where nothing counts them.
        Raises LimitReached."""
        if applied.free is None:
            return None
        return await self._reserve(id_, applied.free, model, _NOTHING, Ask(0, 0))

    async def count_at_once(self, id_: str, applied: Applied) -> None:
        """The same for what has no record. Raises LimitReached."""
        if applied.free is not None:
            hold = await self._reserve(id_, applied.free, None, _NOTHING, Ask(0, 0))
            self.state.settle(id_, applied.free.limits, hold.asked, hold.asked)

    async def _reserve(
        self, id_: str, applied: Applied, model: Model | None, size: Size, ask: Ask
    ) -> Hold:
        outcome = await self.state.reserve(id_, applied.limits, ask)
        readings = list(zip(applied.named, outcome.readings, strict=True))
        headers = rate_headers(readings)
        if outcome.refused:
            raise self._refused([readings[place] for place in outcome.refused], ask, headers)
        if spent := low(readings):
            headers.append(("x-pointsman-budget-warning", warning(spent)))
            self._metrics.budgets_low([named.scope for named, _ in spent])
        return Hold(id_, applied, model, size, ask, headers)

    def _refused(
        self, refused: list[tuple[Named, Reading]], ask: Ask, headers: Headers
    ) -> LimitReached:
        error, named = refusal(refused, ask, self._clock(), headers)
        self._metrics.limit_refused(named.scope, named.kind)
        return error

    async def afford(self, record: Record, model: Model, *beside: Model) -> bool:
        """Whether what a request holds covers a call of a model as well as those that are being
        made beside it, and what was tried before and may be charged; it is raised if need and room
        be."""
        hold = record.hold
        if not isinstance(hold, Hold):
            return True
        if model is hold.model and not (record.attempts or beside):
            return True
        usd = sum(self._most.ask(one, hold.size).usd for one in (model, *beside))
        usd += sum(self._most_of(one, hold) for one in record.attempts if one.charged)
        if usd <= hold.asked.usd:
            return True
        outcome = await self.state.extend(hold.id, hold.applied.limits, hold.asked, usd)
        if outcome.refused:
            return False
        hold.asked = hold.asked._replace(usd=usd)
        return True

    def _most_of(self, attempt: Attempt, hold: Hold) -> int:
        return self._most.ask(self._models[attempt.model], hold.size).usd

    def settle(self, record: Record) -> None:
        """From what was reserved to what was true; once. What was served, or may have been, at a
        cost that nobody knows, stays as reserved."""
        hold = record.hold
        if not isinstance(hold, Hold) or hold.settled:
            return
        hold.settled = True
        usage, asked = record.usage, hold.asked
        served = record.model is not None
        unknown = served or any(one.charged for one in record.attempts)
        usd = record.cost if record.cost is not None else asked.usd if unknown else 0
        for one in record.attempts:
            if one.estimated and not one.text_bytes and one.cost is not None:
                # The estimate is of the input alone: what was written, and is charged, nobody saw.
                usd += max(self._most_of(one, hold) - one.cost, 0)
        if usage is not None:
            tokens = usage.input_tokens + usage.output_tokens
        else:
            tokens = asked.tokens if unknown else 0
        self.state.settle(hold.id, hold.applied.limits, asked, Ask(usd, tokens))

    # --- what had been spent -----------------------------------------------------------------

    async def load(self, source: SpentSource, former: Limiter | None = None) -> None:
        """Go on from what a ledger says has been spent in the periods that run; after a `former`
        one over the same state, only for the budgets that it did not have."""
        rows = await source(self._periods)
        if former is not None:
            new = self._budgets() - former._budgets()
            rows = [row for row in rows if (row.scope, row.name, row.period) in new]
        await self.state.load(
            # A ceiling is of no matter here; what is known is only what has been spent.
            [(self._budget(row.scope, row.name, row.period, 0), row.nano) for row in rows],
            whole=former is not None,
        )

    def has_new_budgets(self, former: Limiter) -> bool:
        """Whether the gateway, a route or a tag has a budget that it did not have."""
        return bool(self._budgets() - former._budgets())

    def _budgets(self) -> set[tuple[Scope, str, PeriodName]]:
        return {
            (scope, name, period)
            for (scope, name), limits in self._own.items()
            for period, attribute, _ in _BUDGETS
            if getattr(limits, attribute) is not None
        }


def _counting(named: Iterable[Named]) -> Applied | None:
    """What counts requests, of some limits."""
    counting = tuple([one for one in named if one.limit.kind == "requests"])
    return Applied(tuple([one.limit for one in counting]), counting, (), ()) if counting else None
