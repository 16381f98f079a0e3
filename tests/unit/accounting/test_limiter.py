"""Which limits a request meets, what it reserves of them, what it is told, what it settles for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.accounting.caller import ANONYMOUS, Caller
from app.accounting.limiter import Limiter, Spent
from app.accounting.limits import Limits
from app.accounting.most import Size
from app.accounting.periods import periods
from app.catalog.model import Model, Prices
from app.catalog.prices import DatedPrices
from app.errors import (
    BudgetExhausted,
    BudgetReserved,
    GatewayError,
    LimitReached,
    TooManyAtOnce,
)
from app.exchange.record import Attempt, Record
from app.exchange.usage import Usage
from app.state.memory import MemoryState
from app.telemetry.metrics import Metrics

# Nano-dollars per million tokens, so a token of SMALL's output costs 4 nano-dollars.
SMALL = Model("small", "u", "s", Prices(input=1_000_000, output=4_000_000), max_output=1000)
LARGE = Model(
    "large", "u", "l", Prices(input=10_000_000, output=40_000_000, cache_write=12_000_000)
)
FREE = Model("free", "u", "f", Prices(0, 0))
UNPRICED = Model("unpriced", "u", "x")

SIZE = Size(input_most=100, input_usual=25, output_most=50)
SMALL_MOST = 100 * 1 + 50 * 4


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


class World:
    """A limiter on a Wednesday, with what tests say of it."""

    def __init__(self, own: dict[Any, Limits] | None = None) -> None:
        self.now = at(2026, 11, 25, 12)
        self.metrics = Metrics(CollectorRegistry())
        self.state = MemoryState(clock=lambda: self.now)
        models = (SMALL, LARGE, FREE, UNPRICED)
        self.limiter = Limiter(self.state, own or {}, models, self.metrics, lambda: self.now)
        self._count = 0

    async def reserve(
        self, caller: Caller = ANONYMOUS, route: str = "auto", model: Model = SMALL,
        size: Size = SIZE,
    ) -> Record:  # fmt: skip
        self._count += 1
        record = Record(f"r{self._count}", 0.0, 0.0, route=route)
        applied = self.limiter.applied(caller, route)
        record.hold = await self.limiter.reserve(record.request_id, applied, model, size)
        return record

    def settle(self, record: Record, cost: int | None, usage: Usage | None = None) -> None:
        record.model, record.cost, record.usage = "small", cost, usage
        self.limiter.settle(record)

    def used(self, caller: Caller = ANONYMOUS, route: str = "auto") -> dict[str, float]:
        named = self.limiter.applied(caller, route).named
        readings = {f"{one.title} {one.field}": self.state.peek(one.limit) for one in named}
        return {key: reading.used for key, reading in readings.items() if reading is not None}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def told(error: GatewayError) -> dict[str, str]:
    return dict(error.headers)


async def test_every_scope_counts() -> None:
    own: dict[Any, Limits] = {
        ("gateway", ""): Limits(in_all=10_000),
        ("route", "auto"): Limits(per_day=10_000),
        ("tag", "batch"): Limits(per_week=10_000),
    }
    world = World(own)
    key = Caller("k1", tags=("batch", "unknown", "batch"), limits=Limits(per_month=10_000))
    record = await world.reserve(key)
    everything = {
        "gateway usd_in_all": SMALL_MOST,
        "route:auto usd_per_day": SMALL_MOST,
        "tag:batch usd_per_week": SMALL_MOST,
        "key usd_per_month": SMALL_MOST,
    }
    assert world.used(key) == everything
    world.settle(record, 7)
    assert world.used(key) == dict.fromkeys(everything, 7)
    assert world.used() == {"gateway usd_in_all": 7, "route:auto usd_per_day": 7}
    assert world.used(route="pinned") == {"gateway usd_in_all": 7}
    assert world.used(replace(key, key_id="k2"))["key usd_per_month"] == 0


async def test_without_limits_nothing_is_held() -> None:
    world = World()
    assert not world.limiter.applied(ANONYMOUS, "auto")
    assert not world.limiter.applied(Caller("k", tags=("batch",)), "auto")
    world.limiter.settle(Record("r", 0.0, 0.0))


@pytest.mark.parametrize(
    ("model", "size", "most"),
    [
        (SMALL, SIZE, 300),
        (SMALL, replace(SIZE, choices=3), 100 + 600),
        (SMALL, replace(SIZE, output_most=9_999), 100 + 1000 * 4),
        (SMALL, replace(SIZE, output_most=None), 100 + 1000 * 4),
        (LARGE, replace(SIZE, output_most=None), 100 * 12 + 4096 * 40),
        (LARGE, SIZE, 100 * 12 + 50 * 40),
        (FREE, SIZE, 0),
        (UNPRICED, SIZE, 100 * 12 + 50 * 40),
    ],
)
async def test_the_most_that_a_call_may_cost(model: Model, size: Size, most: int) -> None:
    world = World({("gateway", ""): Limits(in_all=10**9)})
    await world.reserve(model=model, size=size)
    assert world.used() == {"gateway usd_in_all": most}


async def test_a_fallback_is_paid_for_or_left_out() -> None:
    world = World({("gateway", ""): Limits(in_all=4_000)})
    record = await world.reserve()
    assert await world.limiter.afford(record, SMALL)
    assert await world.limiter.afford(record, LARGE)
    assert world.used() == {"gateway usd_in_all": 3_200}
    assert await world.limiter.afford(record, SMALL)
    other = await world.reserve()
    assert not await world.limiter.afford(other, LARGE)
    world.settle(record, 10)
    world.settle(other, 20)
    assert world.used() == {"gateway usd_in_all": 30}


@pytest.mark.parametrize(("ceiling", "room"), [(2 * SMALL_MOST, True), (2 * SMALL_MOST - 1, False)])
async def test_two_that_are_asked_at_once_are_both_reserved(ceiling: int, room: bool) -> None:
    world = World({("gateway", ""): Limits(in_all=ceiling)})
    record = await world.reserve()
    assert await world.limiter.afford(record, SMALL)
    assert await world.limiter.afford(record, SMALL, SMALL) is room
    assert world.used() == {"gateway usd_in_all": (2 if room else 1) * SMALL_MOST}


@pytest.mark.parametrize(
    ("first", "room", "settled"),
    [
        (Attempt("u", "small", "timeout", 1.0, cost=25, estimated=True), True, SMALL_MOST + 20),
        (Attempt("u", "small", "cut", 1.0, cost=25, estimated=True), False, SMALL_MOST),
        (Attempt("u", "small", "malformed", 1.0, cost=40), True, 40 + 20),
        (Attempt("u", "small", "server_error", 1.0, cost=0, charged=False), True, 20),
    ],
)
async def test_what_failed_and_may_be_charged_is_reserved_beside_the_fallback(
    first: Attempt, room: bool, settled: int
) -> None:
    """Both may be charged: one reservation for the two of them would be overrun."""
    fallback = SMALL_MOST
    ceiling = SMALL_MOST + (fallback if room and first.charged else fallback - 1)
    world = World({("gateway", ""): Limits(in_all=ceiling)})
    record = await world.reserve()
    record.attempts = [first]
    assert await world.limiter.afford(record, SMALL) is (room or not first.charged)
    assert first.cost is not None
    if room:
        record.attempts.append(Attempt("u", "small", "ok", 1.0, cost=20))
        world.settle(record, first.cost + 20)
    else:
        record.cost = first.cost
        world.limiter.settle(record)
    assert world.used() == {"gateway usd_in_all": settled}


async def test_a_request_is_reserved_for_at_the_prices_it_is_billed_at() -> None:
    """Those of the day it came in, also where it is decided after midnight."""
    old, new = Prices(2_000_000, 2_000_000), Prices(1_000_000, 1_000_000)
    model = Model("dated", "u", "d", DatedPrices((0, 20_000), (old, new)))
    world = World({("gateway", ""): Limits(in_all=10_000)})
    await world.reserve(model=model, size=replace(SIZE, day=19_999))
    assert world.used() == {"gateway usd_in_all": 300}
    await world.reserve(model=model, size=replace(SIZE, day=20_000))
    assert world.used() == {"gateway usd_in_all": 450}


async def test_a_tier_for_longer_requests_may_be_the_cheaper_one() -> None:
    tiers = ((90, Prices(1_000_000, 1_000_000)), (1_000, Prices(50_000_000, 0)))
    model = Model("tiers", "u", "t", Prices(3_000_000, 3_000_000, tiers=tiers))
    world = World({("gateway", ""): Limits(in_all=10_000)})
    await world.reserve(model=model)
    assert world.used() == {"gateway usd_in_all": 450}


@pytest.mark.parametrize(
    ("cost", "model", "outcomes", "settled"),
    [
        (5, "small", ["ok"], 5),
        (0, "small", ["ok"], 0),
        (None, "small", ["ok"], SMALL_MOST),
        (None, None, [], 0),
        (None, None, ["connect_failed", "rate_limited", "server_error", "refused_request"], 0),
        (None, None, ["timeout"], SMALL_MOST),
        (None, None, ["connect_failed", "cancelled"], SMALL_MOST),
        (None, "small", ["client_gone"], SMALL_MOST),
    ],
)
async def test_what_is_not_known_stays_as_reserved(
    cost: int | None, model: str | None, outcomes: list[str], settled: int
) -> None:
    # As the errors of these names say.
    free = {"connect_failed", "rate_limited", "server_error", "refused_request"}
    world = World({("gateway", ""): Limits(in_all=4_000, parallel_requests=1)})
    record = await world.reserve()
    record.cost, record.model = cost, model
    record.attempts = [
        Attempt("u", "small", outcome, 0.1, charged=outcome not in free) for outcome in outcomes
    ]
    world.limiter.settle(record)
    world.limiter.settle(record)  # once
    assert world.used() == {"gateway usd_in_all": settled, "gateway parallel_requests": 0}


async def test_tokens_are_settled_by_usage() -> None:
    world = World({("gateway", ""): Limits(tokens_per_minute=1_000)})
    record = await world.reserve()
    assert world.used() == {"gateway tokens_per_minute": 75}
    world.settle(record, 1, Usage(30, 12))
    assert world.used() == {"gateway tokens_per_minute": 42}
    await world.reserve(size=replace(SIZE, output_most=None))
    assert world.used() == {"gateway tokens_per_minute": 42 + 325}


# --- what callers are told -------------------------------------------------------------------


async def test_a_budget_that_is_used_up() -> None:
    world = World({("route", "auto"): Limits(per_day=1_000)})
    world.settle(await world.reserve(), 900)
    with pytest.raises(BudgetExhausted) as refused:
        await world.reserve()
    error = refused.value
    assert (error.status, error.type) == (429, "insufficient_quota")
    assert error.code == "policy_budget_exhausted"
    assert told(error) == {
        "retry-after": "43200",  # midnight
        "x-should-retry": "false",
        "x-pointsman-limit": "route:auto usd_per_day",
    }
    assert "`usd_per_day` of route `auto`" in error.message
    assert "$" not in error.message, "amounts are the operator's"
    assert world.metric("pointsman_limit_refusals_total", scope="route", kind="budget") == 1
    world.now += 43_200
    await world.reserve()


async def test_a_key_is_told_its_own_amounts_and_never_its_id() -> None:
    world = World()
    key = Caller("the-id", name="the-name", limits=Limits(in_all=1_000))
    world.settle(await world.reserve(key), 900)
    with pytest.raises(BudgetExhausted) as refused:
        await world.reserve(key)
    error = refused.value
    assert "up to $0.0000003, and $0.0000001 is left" in error.message
    assert "retry-after" not in told(error), "it never comes back"
    assert told(error)["x-pointsman-limit"] == "key usd_in_all"
    assert "the-" not in f"{error.message}{error.headers}"


async def test_what_is_only_reserved_may_come_back_soon() -> None:
    world = World({("gateway", ""): Limits(per_month=500)})
    record = await world.reserve()
    with pytest.raises(BudgetReserved) as refused:
        await world.reserve()
    assert told(refused.value)["retry-after"] == "1"
    assert "x-should-retry" not in told(refused.value)
    world.settle(record, 100)
    await world.reserve()


async def test_rates_are_told_as_openai_does() -> None:
    own: dict[Any, Limits] = {
        ("gateway", ""): Limits(requests_per_minute=100),
        ("route", "auto"): Limits(requests_per_minute=2, tokens_per_minute=1_000),
    }
    world = World(own)
    record = await world.reserve()
    assert dict(record.hold.headers) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "925",
        "x-ratelimit-reset-tokens": "5s",
    }
    await world.reserve()
    world.now += 0.5
    with pytest.raises(LimitReached) as refused:
        await world.reserve()
    error = refused.value
    assert (error.type, error.code) == ("rate_limit_error", "policy_rate_limited")
    assert told(error)["retry-after"] == "30"
    assert told(error)["x-ratelimit-remaining-requests"] == "0"
    assert told(error)["x-ratelimit-reset-requests"] == "1m0s"
    assert told(error)["x-pointsman-limit"] == "route:auto requests_per_minute"
    world.now += 30
    await world.reserve()


async def test_a_request_larger_than_a_minute() -> None:
    world = World({("gateway", ""): Limits(tokens_per_minute=50)})
    with pytest.raises(LimitReached) as refused:
        await world.reserve()
    assert told(refused.value)["x-should-retry"] == "false"
    assert "about 75 tokens" in refused.value.message


async def test_too_many_at_once() -> None:
    world = World()
    key = Caller("k", limits=Limits(parallel_requests=1))
    record = await world.reserve(key)
    with pytest.raises(TooManyAtOnce) as refused:
        await world.reserve(key)
    assert refused.value.message.startswith("This key has 1 requests running")
    assert told(refused.value)["retry-after"] == "1"
    world.settle(record, 0)
    await world.reserve(key)


async def test_of_several_the_longest_wait_is_named() -> None:
    own = {("gateway", ""): Limits(requests_per_minute=1), ("route", "auto"): Limits(per_day=400)}
    world = World(own)  # type: ignore[arg-type]
    world.settle(await world.reserve(), 200)
    with pytest.raises(BudgetExhausted) as refused:
        await world.reserve()
    assert told(refused.value)["x-pointsman-limit"] == "route:auto usd_per_day"
    assert told(refused.value)["x-ratelimit-remaining-requests"] == "0"


async def test_what_is_sure_to_be_refused_is_refused_before_it_is_decided() -> None:
    own = {("gateway", ""): Limits(requests_per_minute=1), ("route", "auto"): Limits(per_day=400)}
    world = World(own)  # type: ignore[arg-type]
    world.limiter.foresee(world.limiter.applied(ANONYMOUS, "auto"))
    world.settle(await world.reserve(), 200)
    with pytest.raises(LimitReached) as refused:
        world.limiter.foresee(world.limiter.applied(ANONYMOUS, "pinned"))
    assert told(refused.value)["retry-after"] == "60"
    world.now += 60
    world.limiter.foresee(world.limiter.applied(ANONYMOUS, "pinned"))
    world.settle(await world.reserve(size=replace(SIZE, output_most=1)), 200)
    with pytest.raises(BudgetExhausted):
        world.limiter.foresee(world.limiter.applied(ANONYMOUS, "auto"))


async def test_what_costs_no_money_counts_among_the_requests_of_a_minute_alone() -> None:
    limits = Limits(requests_per_minute=2, parallel_requests=1, in_all=1_000, tokens_per_minute=1)
    caller = Caller("k", limits=limits)
    world = World({("gateway", ""): Limits(per_day=0)})
    applied = world.limiter.applied(caller, "auto")
    for number in range(2):
        await world.limiter.count_at_once(f"d{number}", applied)
    with pytest.raises(LimitReached) as refused:
        await world.limiter.count_at_once("d2", applied)
    assert told(refused.value)["x-pointsman-limit"] == "key requests_per_minute"
    assert told(refused.value)["retry-after"] == "30"
    assert told(refused.value)["x-ratelimit-remaining-requests"] == "0"
    readings = {one.kind: world.state.peek(one) for one in applied.limits if one.kind != "requests"}
    assert [(seen.used, seen.held) for seen in readings.values() if seen] == [(0, 0)] * 3
    free = world.limiter.applied(ANONYMOUS, "auto")
    await world.limiter.count_at_once("d3", free)


async def test_warnings_from_the_soft_share_on() -> None:
    limits = Limits(per_day=1_000, in_all=10_000, soft_share=0.5)
    world = World({("gateway", ""): limits})
    applied = world.limiter.applied(ANONYMOUS, "auto")
    world.settle(await world.reserve(), 499)
    record = await world.reserve()
    assert "x-pointsman-budget-warning" not in dict(record.hold.headers)
    assert not world.limiter.low(applied)
    world.settle(record, 1)
    record = await world.reserve()
    said = dict(record.hold.headers)["x-pointsman-budget-warning"]
    assert said == "gateway usd_per_day 0.50"
    assert world.limiter.low(applied)
    assert world.metric("pointsman_budget_warnings_total", scope="gateway") == 1


# --- periods, and what a ledger knows --------------------------------------------------------


async def test_every_period_begins_anew() -> None:
    limits = Limits(per_day=1_000, per_week=1_000, per_month=1_000, in_all=1_000)
    world = World({("gateway", ""): limits})
    record = await world.reserve()
    world.now = at(2026, 11, 26)
    names = ["usd_per_day", "usd_per_week", "usd_per_month", "usd_in_all"]

    def used() -> list[float]:
        said = world.used()
        return [said[f"gateway {name}"] for name in names]

    assert used() == [0, 300, 300, 300]
    world.settle(record, 100)  # counted where it was reserved
    assert used() == [0, 100, 100, 100]
    world.now = at(2026, 11, 30)
    assert used() == [0, 0, 100, 100]
    world.now = at(2026, 12, 1)
    assert used() == [0, 0, 0, 100]


@pytest.mark.parametrize(
    ("now", "labels", "week", "month"),
    [
        (at(2026, 11, 25, 12), ["2026-11-25", "2026-W48", "2026-11"], (11, 23), (11, 1)),
        (at(2027, 1, 1), ["2027-01-01", "2026-W53", "2027-01"], None, (1, 1)),
        (at(2028, 2, 29, 23), ["2028-02-29", "2028-W09", "2028-02"], (2, 28), (2, 1)),
        (at(2026, 12, 31), ["2026-12-31", "2026-W53", "2026-12"], (12, 28), (12, 1)),
    ],
)
def test_periods(now: float, labels: list[str], week: Any, month: tuple[int, int]) -> None:
    said = periods(now)
    assert [said[name].label for name in ("day", "week", "month")] == labels  # type: ignore[index]
    year = datetime.fromtimestamp(now, UTC).year
    assert said["month"].start == at(year, *month)
    if week:
        assert said["week"].start == at(year, *week)
    for one in said.values():
        assert one.start <= now
        assert one.until is None or now < one.until
    assert (said["all"].start, said["all"].until) == (0.0, None)


async def test_budgets_go_on_from_what_a_ledger_says() -> None:
    limits = Limits(per_day=1_000, in_all=2_000)
    world = World({("gateway", ""): limits})
    key = Caller("k1", limits=limits)

    async def ledger(asked: Any) -> list[Spent]:
        assert asked["day"].start == at(2026, 11, 25)
        return [
            Spent("gateway", "", "day", 100),
            Spent("gateway", "", "all", 300),
            Spent("key", "k1", "day", 50),
            Spent("key", "gone", "week", 50),
        ]

    await world.limiter.load(ledger)
    assert world.used(key) == {
        "gateway usd_per_day": 100,
        "gateway usd_in_all": 300,
        "key usd_per_day": 50,
        "key usd_in_all": 0,
    }


async def test_a_next_one_goes_on_and_asks_the_ledger_for_what_is_new() -> None:
    world = World({("route", "auto"): Limits(per_day=1_000)})
    world.settle(await world.reserve(), 150)
    former = world.limiter
    own = {("route", "auto"): Limits(per_day=900, in_all=5_000), ("gateway", ""): Limits()}
    models = (SMALL, LARGE, FREE, UNPRICED)
    world.limiter = Limiter(world.state, own, models, world.metrics, lambda: world.now)  # type: ignore[arg-type]
    assert world.limiter.has_new_budgets(former)
    assert not former.has_new_budgets(world.limiter)

    async def ledger(asked: Any) -> list[Spent]:
        # It has all that this process settled, and a tag that nobody limits.
        return [
            Spent("route", "auto", "day", 150),
            Spent("route", "auto", "all", 700),
            Spent("tag", "blue", "day", 50),
        ]

    await world.limiter.load(ledger, former)
    told = {"route:auto usd_per_day": 150, "route:auto usd_in_all": 700}
    assert world.used(ANONYMOUS) == told


async def test_what_began_before_is_settled_by_the_former_one() -> None:
    world = World({("gateway", ""): Limits(per_day=1_000, parallel_requests=1)})
    record = await world.reserve()
    former = world.limiter
    own = {("gateway", ""): Limits(per_day=1_000, parallel_requests=1)}
    world.limiter = Limiter(world.state, own, [LARGE], world.metrics, lambda: world.now)  # type: ignore[arg-type]
    with pytest.raises(LimitReached):
        await world.reserve(model=LARGE, size=Size(1, 1, 1))
    record.model, record.cost = "small", 40
    former.settle(record)
    assert world.used(ANONYMOUS)["gateway usd_per_day"] == 40
    await world.reserve(model=LARGE, size=Size(1, 1, 1))
