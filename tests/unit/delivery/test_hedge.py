"""A second attempt beside one that is late: when, where, and that nothing of the loser is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.model import DeploymentLimits, Model
from app.delivery.attempt import Opened, Whole
from app.delivery.deployment import DeploymentState
from app.delivery.drain import Drain
from app.delivery.hedge import Hedging
from app.delivery.recent import LEAST_TIMES
from app.delivery.relay import Relay
from app.errors import ConnectFailed, UpstreamCut, UpstreamError, UpstreamRefusedRequest
from app.exchange.record import Record
from app.exchange.terms import Hedge, Retries, Terms
from tests.unit.delivery.fakes import World, model, place

PAIR = model("pair", place("a"), place("b", priority=1))
NEXT = model("next", place("c"))
SOON = Hedge(min_seconds=0.0)
HEDGED = Terms(hedge=SOON)
OTHERS_TOO = Terms(hedge=Hedge(min_seconds=0.0, models=True))


class Hanging:
    """Answers nothing until it is let go."""

    def __init__(self, then: Any = None) -> None:
        self.came, self.let_go = asyncio.Event(), asyncio.Event()
        self.cancelled = False
        self._then = then

    async def __call__(self) -> Any:
        self.came.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self._then


@pytest.fixture
def world() -> World:
    one = World()
    one.configure(PAIR, NEXT)
    settle_in(one)
    return one


def settle_in(world: World, hedges: float = 10.0) -> None:
    """As after many quick answers: what is late is known, and some may be asked twice."""
    for state in world.deployments:
        for stream in (False, True):
            quick(state, stream=stream)
        state.hedges.deposit(hedges)


def quick(state: DeploymentState, times: int = LEAST_TIMES, *, stream: bool) -> None:
    for _ in range(times):
        state.note_latency(0.001, stream=stream)


def state_of(world: World, name: str) -> DeploymentState:
    state = world.deployments.get(name)
    assert state is not None
    return state


def outcomes(world: World) -> dict[str, str]:
    return {one.upstream: one.outcome for one in world.record.attempts}


def told(world: World, result: str) -> float:
    labels = {"route": "none", "result": result}
    return world.metrics.registry.get_sample_value("pointsman_hedges_total", labels) or 0.0


async def until(holds: Callable[[], Any]) -> None:
    """Let the others go on until something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def closed(result: Whole | Opened) -> None:
    if isinstance(result, Opened):
        Relay(result, lambda outcome: None).close()


def nothing_left(world: World) -> bool:
    return all(state.in_flight == 0 for state in world.deployments)


# --- when it is late -------------------------------------------------------------------------


def late_after(world: World, name: str, hedge: Hedge = SOON, *, stream: bool) -> float | None:
    hedging = Hedging(
        hedge,
        world.deployments,
        world.record,
        tokens=1,
        stream=stream,
        afford=None,
        drain=None,
    )
    return hedging.late_after(NEXT if name == "c" else PAIR, state_of(world, name))


def test_late_is_what_takes_longer_than_recent_answers_did() -> None:
    world = World()
    now = 1000.0
    world.deployments.clock = lambda: now
    world.configure(PAIR)
    state = state_of(world, "a")
    for tenths in range(1, LEAST_TIMES):
        state.note_latency(tenths / 10, stream=True)
    assert late_after(world, "a", stream=True) is None, "too few say nothing"
    state.note_latency(LEAST_TIMES / 10, stream=True)
    assert late_after(world, "a", stream=True) == 1.9
    assert late_after(world, "a", Hedge(percentile=50, min_seconds=0), stream=True) == 1.0
    assert late_after(world, "a", Hedge(min_seconds=3), stream=True) == 3
    assert late_after(world, "a", stream=False) is None, "whole answers are another matter"
    now += 1000
    assert late_after(world, "a", stream=True) is None, "that is long ago"


def test_only_the_last_times_count() -> None:
    world = World()
    world.configure(PAIR)
    for seconds in (9.0, 1.0):
        for _ in range(200):
            state_of(world, "a").note_latency(seconds, stream=True)
    assert late_after(world, "a", stream=True) == 1.0


def test_nothing_is_late_where_nobody_else_may_be_asked(world: World) -> None:
    assert late_after(world, "c", stream=True) is None
    assert late_after(world, "c", Hedge(models=True), stream=True) is not None


# --- who answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_another_deployment_answers_and_the_late_one_is_cancelled(
    world: World, stream: bool
) -> None:
    late = world["a"].standing = Hanging()
    result = await world.ask(PAIR, NEXT, terms=HEDGED, stream=stream)
    assert isinstance(result, Opened if stream else Whole)
    assert late.cancelled
    assert outcomes(world) == {"a": "hedged_away", "b": "ok"}
    served = world.record.served
    assert served is not None
    assert (served.deployment, world.record.model, world.record.upstream) == ("b", "pair", "b")
    assert state_of(world, "a").in_flight == 0
    closed(result)
    assert nothing_left(world)
    assert told(world, "won") == 1
    assert state_of(world, "a").breaker.window.counts().total == 0, "that says nothing of it"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_one_answers_and_the_hedge_is_cancelled(world: World, stream: bool) -> None:
    first, hedge = Hanging(), Hanging()
    world["a"].standing, world["b"].standing = first, hedge
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, stream=stream))
    await hedge.came.wait()
    first.let_go.set()
    closed(await asking)
    assert hedge.cancelled
    assert [(one.upstream, one.outcome) for one in world.record.attempts] == [
        ("b", "hedged_away"),
        ("a", "ok"),
    ]
    served = world.record.served
    assert served is not None
    assert (served.upstream, world.record.upstream) == ("a", "a")
    assert nothing_left(world)
    assert told(world, "lost") == 1


async def test_two_that_answer_in_one_moment(world: World) -> None:
    """One serves. What the other has said is nobody's, and closed."""
    first, hedge = Hanging(), Hanging()
    world["a"].standing, world["b"].standing = first, hedge
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, stream=True))
    await hedge.came.wait()
    first.let_go.set()
    hedge.let_go.set()
    closed(await asking)
    assert sorted(outcomes(world).values()) == ["hedged_away", "ok"]
    assert nothing_left(world)


async def test_how_slow_the_late_one_was_is_remembered(world: World) -> None:
    """Or its percentile would fall with each hedge, and everything would be hedged."""
    late = world["a"].standing = Hanging()
    before = state_of(world, "a").latency(stream=True)
    closed(await world.ask(PAIR, terms=HEDGED, stream=True))
    after = state_of(world, "a").latency(stream=True)
    assert late.cancelled
    assert before is not None
    assert after is not None
    assert after > before


async def test_waiting_for_two_is_waited_once(world: World) -> None:
    """What overlaps is not time of the upstreams twice, or the gateway would seem to need none."""
    first, hedge = Hanging(), Hanging()
    world["a"].standing, world["b"].standing = first, hedge
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED))
    await hedge.came.wait()
    await asyncio.sleep(0.05)
    first.let_go.set()
    await asking
    both = sum(one.seconds for one in world.record.attempts)
    longest = max(one.seconds for one in world.record.attempts)
    assert longest <= world.record.upstream_seconds < both


# --- where it goes ---------------------------------------------------------------------------


async def test_to_another_model_only_if_the_route_says_so(world: World) -> None:
    world["a"].standing = world["b"].standing = Hanging()
    state_of(world, "b").cool_down(60)
    asking = asyncio.create_task(world.ask(PAIR, NEXT, terms=HEDGED))
    await until(lambda: told(world, "no_room"))
    assert world["c"].asked == []
    world["a"].standing.let_go.set()
    await asking
    world["a"].standing = Hanging()
    await world.ask(PAIR, NEXT, terms=OTHERS_TOO)
    assert (world.record.model, world.record.upstream) == ("next", "c")
    assert told(world, "won") == 1


def cooled(world: World) -> None:
    state_of(world, "b").cool_down(60)


def opened(world: World) -> None:
    state_of(world, "b").breaker.open("errors")


def half_open(world: World) -> None:
    """A probe is for who has time."""
    state_of(world, "b").breaker.open("errors")
    state_of(world, "b").breaker.until = 0.0


def full(world: World) -> None:
    state = state_of(world, "b")
    limited = place("b", DeploymentLimits(parallel_requests=1), priority=1)
    state.configure(limited, state.policy)
    state.admit(1, stream=False)


@pytest.mark.parametrize("shut", [cooled, opened, half_open, full])
async def test_not_where_there_is_no_room(world: World, shut: Callable[[World], None]) -> None:
    shut(world)
    late = world["a"].standing = Hanging()
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED))
    await until(lambda: told(world, "no_room"))
    late.let_go.set()
    await asking
    assert world.tried == ["a"]
    assert state_of(world, "a").hedges.left == pytest.approx(10.05), "it was not used"


async def test_not_beyond_what_was_reserved(world: World) -> None:
    """The late one counts, although its attempt has not ended."""
    late = world["a"].standing = Hanging()
    asked: list[tuple[Model, ...]] = []

    async def afford(model: Model, *beside: Model) -> bool:
        asked.append((model, *beside))
        return not beside

    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, afford=afford))
    await until(lambda: told(world, "no_room"))
    late.let_go.set()
    await asking
    assert asked == [(PAIR,), (PAIR, PAIR)]
    assert world.tried == ["a"]


async def test_an_answer_does_not_wait_for_a_budget_that_is_slow(world: World) -> None:
    late = world["a"].standing = Hanging()
    looking = asyncio.Event()

    async def afford(model: Model, *beside: Model) -> bool:
        if beside:
            looking.set()
            await asyncio.Event().wait()
        return True

    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, afford=afford))
    await looking.wait()
    late.let_go.set()
    await asking
    assert world.tried == ["a"]
    assert nothing_left(world)


# --- not always ------------------------------------------------------------------------------


async def not_hedged(world: World, **more: Any) -> None:
    """The late one is waited for, for far longer than is usual."""
    late = world["a"].standing = Hanging()
    asking = asyncio.create_task(world.ask(PAIR, **{"terms": HEDGED, **more}))
    await late.came.wait()
    await asyncio.sleep(0.03)
    late.let_go.set()
    await asking
    assert world.tried == ["a"]
    assert world["b"].asked == []


async def test_not_without_a_word_of_the_route(world: World) -> None:
    await not_hedged(world, terms=Terms())


async def test_not_while_the_gateway_drains(world: World) -> None:
    await not_hedged(world, drain=Drain(draining=True))


async def test_not_over_budget() -> None:
    world = World()
    world.configure(PAIR)
    settle_in(world, hedges=0.0)
    await not_hedged(world)
    assert told(world, "over_budget") == 1


async def test_over_time_hedges_add_their_share_and_no_more() -> None:
    world = World()
    world.configure(PAIR)
    settle_in(world, hedges=0.0)
    late = 0
    for number in range(100):
        quick(state_of(world, "a"), 200, stream=False)
        gate = world["a"].standing = Hanging()
        asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED))
        await until(lambda: told(world, "over_budget") + told(world, "won") > number)  # noqa: B023
        gate.let_go.set()
        await asking
        late += gate.cancelled
    assert 4 <= late <= 5


# --- when they fail --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [ConnectFailed("no"), UpstreamCut("cut"), 503, 429, 400])
async def test_when_the_first_fails_the_hedge_is_waited_for(world: World, fault: Any) -> None:
    first, hedge = Hanging(fault), Hanging()
    world["a"].standing, world["b"].standing = first, hedge
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED))
    await hedge.came.wait()
    first.let_go.set()
    await until(lambda: world.record.attempts)
    hedge.let_go.set()
    closed(await asking)
    assert world.tried == ["a", "b"]
    assert world.record.upstream == "b"
    assert (state_of(world, "a").cooldown_until > 0) == (fault == 429)


@pytest.mark.parametrize("fault", [503, 400])
async def test_when_the_hedge_fails_the_first_is_waited_for(world: World, fault: Any) -> None:
    first = world["a"].standing = Hanging()
    world["b"].standing = fault
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED))
    await until(lambda: world.record.attempts)
    first.let_go.set()
    await asking
    assert world.tried == ["b", "a"]
    assert (world.record.upstream, told(world, "lost")) == ("a", 1)


async def test_when_both_fail_it_goes_on_as_usual(world: World) -> None:
    """The hedge is not asked again in the same round."""
    first = world["a"].standing = Hanging(503)
    world["b"].standing = 503
    asking = asyncio.create_task(world.ask(PAIR, NEXT, terms=HEDGED))
    await until(lambda: world.record.attempts)
    first.let_go.set()
    await asking
    assert world.tried == ["b", "a", "next"]
    assert (world.record.upstream, told(world, "failed")) == ("c", 1)


async def test_a_last_word_is_one_when_both_have_failed(world: World) -> None:
    first = world["a"].standing = Hanging(503)
    world["b"].standing = 400
    asking = asyncio.create_task(world.ask(PAIR, NEXT, terms=HEDGED))
    await until(lambda: world.record.attempts)
    first.let_go.set()
    with pytest.raises(UpstreamRefusedRequest):
        await asking
    assert world["c"].asked == []


# --- who leaves ------------------------------------------------------------------------------


async def left_at(world: World, moment: Callable[[], Awaitable[Any]], stream: bool) -> None:
    asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, stream=stream))
    await moment()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert nothing_left(world)
    assert set(outcomes(world).values()) <= {"cancelled"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_both(world: World, stream: bool) -> None:
    first, hedge = Hanging(), Hanging()
    world["a"].standing, world["b"].standing = first, hedge
    await left_at(world, hedge.came.wait, stream)
    assert (first.cancelled, hedge.cancelled) == (True, True)
    assert outcomes(world) == {"a": "cancelled", "b": "cancelled"}
    assert told(world, "cancelled") == 1


async def test_a_client_that_leaves_at_any_step(world: World) -> None:
    """Also before an attempt has begun, and in the moment of its answer."""
    for steps in range(12):
        world["a"].standing = Hanging() if steps % 2 else None

        async def some(steps: int = steps) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        asking = asyncio.create_task(world.ask(PAIR, terms=HEDGED, stream=True))
        await some()
        asking.cancel()
        try:
            closed(await asking)
        except asyncio.CancelledError:
            assert all(one.outcome == "cancelled" for one in world.record.attempts)
        assert nothing_left(world), steps


# --- the promise -----------------------------------------------------------------------------

FAULTS: list[Any] = [None, 503, 429, 401, 400, ConnectFailed("no"), UpstreamCut("cut")]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 6)), min_size=3, max_size=3),
            st.booleans(),
            st.booleans(),
            st.one_of(st.none(), st.integers(0, 12)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_happens_each_attempt_is_booked_once_and_no_seat_is_lost(
    requests: list[tuple[list[tuple[Any, int]], bool, bool, int | None]],
) -> None:
    """However late each of three is, whatever it says then, and whenever the client leaves."""

    def after(fault: Any, steps: int) -> Callable[[], Awaitable[Any]]:
        async def answer() -> Any:
            for _ in range(steps):
                await asyncio.sleep(0)
            return fault

        return answer

    async def run() -> None:
        world = World()
        world.configure(PAIR, NEXT)
        settle_in(world)
        eager = Terms(hedge=Hedge(50, 1.0, 0.0, models=True), retries=Retries(attempts=0))
        for answers, stream, hasty, leaves in requests:
            for state in world.deployments:
                state.cooldown_until = 0.0
                for _ in range(200):
                    state.note_latency(0.0 if hasty else 100.0, stream=stream)
            for name, (fault, steps) in zip("abc", answers, strict=True):
                world[name].standing = after(fault, steps)
                world[name].asked.clear()
            world.record = Record("r", 0.0, 0.0)
            asking = asyncio.create_task(world.ask(PAIR, NEXT, terms=eager, stream=stream))
            if leaves is not None:
                for _ in range(leaves):
                    await asyncio.sleep(0)
                asking.cancel()
            try:
                closed(await asking)
                served = world.record.served
                assert served is not None
                assert served.outcome == "ok"
                assert served.upstream == world.record.upstream
                assert [one.outcome for one in world.record.attempts].count("ok") == 1
            except asyncio.CancelledError:
                assert "ok" not in outcomes(world).values()
            except UpstreamError:
                assert "ok" not in outcomes(world).values()
                assert "hedged_away" not in outcomes(world).values()
            sent = [(one, len(world[one].asked)) for one in "abc" if world[one].asked]
            booked = [one.upstream for one in world.record.attempts]
            assert sorted(booked) == sorted(name for name, times in sent for _ in range(times))
            assert nothing_left(world)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
