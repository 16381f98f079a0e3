"""The way of one request over deployments and models: what is asked, in what order, and when."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.model import Deployment, DeploymentLimits, Model
from app.delivery.attempt import Opened, Whole
from app.delivery.deployment import DeploymentState, Seat, UpstreamPolicy
from app.delivery.fallback import deliver
from app.delivery.health import BreakerSettings
from app.delivery.relay import Relay
from app.errors import (
    ConnectFailed,
    ContentRefused,
    ContextTooLong,
    StaleConnection,
    UpstreamCut,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusedRequest,
    UpstreamServerError,
    UpstreamTimeout,
)
from app.exchange.record import Record
from app.exchange.terms import Asked, Retries, Terms, TimeoutsOrNone
from tests.unit.delivery.fakes import POLICY, QUICK, World, model, parsed, place

ONE = model("one")
TWO = model("pair", place("a"), place("b", priority=1))
OTHER = model("other", place("fine"))
NO_RETRIES = Terms(retries=Retries(attempts=0))


def limited(seconds: float | None) -> tuple[int, dict[str, str], bytes]:
    return 429, {} if seconds is None else {"retry-after": str(seconds)}, b"{}"


def refused(message: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
    return 400, {}, orjson.dumps({"error": {"message": message, **more}})


@pytest.fixture
def world() -> World:
    one = World()
    one.configure(ONE, TWO, model("other"))
    return one


async def test_the_other_deployment_then_the_next_model(world: World) -> None:
    world["a"].standing = world["b"].standing = 503
    await world.ask(TWO, ONE)
    assert world.tried == ["a", "b", "one"]
    assert (world.record.model, world.record.upstream) == ("one", "up")
    assert [one.upstream for one in world.record.attempts] == ["a", "b", "up"]


async def test_what_failed_in_passing_is_asked_again_after_all_others(world: World) -> None:
    world["a"].script.extend([503])
    world["b"].standing = 503
    await world.ask(TWO)
    assert world.tried == ["a", "b", "a"]


@pytest.mark.parametrize("error", [ConnectFailed("no"), 500, 529, 408])
async def test_a_single_deployment_is_asked_again_as_often_as_is_allowed(
    world: World, error: Any
) -> None:
    world.policy = UpstreamPolicy(breaker=None, retries=QUICK)
    world.configure(ONE)
    world["up"].standing = error
    with pytest.raises(UpstreamError):
        await world.ask(ONE)
    assert len(world.tried) == 3
    with pytest.raises(UpstreamError):
        await world.ask(ONE, terms=NO_RETRIES)
    assert len(world.tried) == 1
    with pytest.raises(UpstreamError):
        await world.ask(ONE, asked=Asked(retries=1))
    assert len(world.tried) == 2


@pytest.mark.parametrize(
    "error", [UpstreamCut("cut"), UpstreamTimeout("late"), 401, 404, (200, {}, b"nonsense")]
)
async def test_what_may_have_been_done_is_not_asked_of_the_same_one_again(
    world: World, error: Any
) -> None:
    """Nor is what will be the same the next time. Others are asked: no answer costs more."""
    world["a"].standing = error
    await world.ask(TWO)
    assert world.tried == ["a", "b"]
    world["b"].standing = error
    with pytest.raises(UpstreamError):
        await world.ask(TWO)
    assert world.tried == ["a", "b"]


async def test_a_stale_connection_is_no_attempt_of_its_own(world: World) -> None:
    world["up"].script.extend([StaleConnection("closed")])
    await world.ask(ONE, terms=NO_RETRIES)
    assert [one.outcome for one in world.record.attempts] == ["stale", "ok"]


async def test_a_name_that_moves_in_a_reload_stays_what_it_was_for_those_who_began(
    world: World,
) -> None:
    """Its upstream is not even known to the configuration that they began with."""
    moved = model("one", Deployment("one", "elsewhere", "other-id"))

    async def reloads() -> Any:
        world.configure(moved)
        raise ConnectFailed("no")

    upstreams = {"up": world["up"]}
    world["up"].script.append(reloads)
    record = Record("r", 0.0, 0.0)
    await deliver(parsed(), (ONE,), upstreams, record, world.deployments)
    assert [one.upstream for one in record.attempts] == ["up", "up"]
    assert world["up"].asked == ["one", "one"]
    state = world.deployments.get("one")
    assert state is not None
    assert state.in_flight == 0


async def test_nothing_is_set_aside_for_a_model_that_is_not_asked(world: World) -> None:
    """Money that a request holds is money that others are refused for."""
    dear, left = model("dear", place("dear")), model("left", place("left"))
    world.configure(ONE, dear, left)
    world["up"].standing = 404
    for name in ("dear", "left"):
        state = world.deployments.get(name)
        assert state is not None
        if name == "dear":
            state.breaker.open("errors")
        else:
            state.cool_down(30)
    asked: list[str] = []

    async def afford(one: Model, *beside: Model) -> bool:
        asked.append(one.name)
        return True

    plan, record = (ONE, dear, left, OTHER), Record("r", 0.0, 0.0)
    await deliver(parsed(), plan, world.upstreams, record, world.deployments, afford=afford)
    assert asked == ["one", "other"]


async def test_a_refusal_goes_to_the_client_at_once(world: World) -> None:
    world["a"].standing = refused("'temperature' must be at most 2.")
    with pytest.raises(UpstreamRefusedRequest):
        await world.ask(TWO, ONE)
    assert world.tried == ["a"]
    state = world.deployments.get("a")
    assert state is not None
    assert state.breaker.window.counts() == (1, 0, 0)


# --- cooldowns -------------------------------------------------------------------------------


async def test_one_that_asks_to_be_left_alone_is(world: World) -> None:
    world["a"].script.append(limited(30))
    await world.ask(TWO)
    assert world.tried == ["a", "b"]
    await world.ask(TWO)
    assert world.tried == ["b"]


async def test_the_moment_is_waited_for_where_nothing_else_can_serve(world: World) -> None:
    world["up"].script.append(limited(0.05))
    started = perf_counter()
    await world.ask(ONE)
    assert perf_counter() - started >= 0.05
    assert world.tried == ["one", "one"]
    assert world.record.upstream_seconds >= 0.05, "it is not the gateway's own time"


async def test_who_comes_while_it_is_left_alone_waits_as_well(world: World) -> None:
    world["up"].script.append(limited(0.05))
    with pytest.raises(UpstreamRateLimited):
        await world.ask(ONE, terms=Terms(retries=Retries(attempts=0, wait_seconds=0)))
    await world.ask(ONE, terms=NO_RETRIES)
    assert world.tried == ["one"]


async def test_a_wait_that_is_too_long_is_told_and_not_tried(world: World) -> None:
    world["up"].script.append(limited(60))
    with pytest.raises(UpstreamRateLimited) as caught:
        await world.ask(ONE)
    assert dict(caught.value.headers) == {"retry-after": "60"}
    with pytest.raises(UpstreamRateLimited) as caught:
        await world.ask(ONE)
    assert world.tried == []
    assert dict(caught.value.headers) == {"retry-after": "60"}


async def test_a_wait_beyond_the_deadline_is_not_begun(world: World) -> None:
    world["up"].script.append(limited(0.5))
    started = perf_counter()
    with pytest.raises(UpstreamRateLimited):
        await world.ask(ONE, asked=Asked(total_seconds=0.2))
    assert perf_counter() - started < 0.2


async def test_those_who_wait_for_the_same_moment_do_not_come_all_at_once(world: World) -> None:
    state = world.deployments.of(ONE)[0]
    state.cool_down(0.05)
    arrived: list[float] = []

    async def arrives() -> None:
        arrived.append(perf_counter())

    world["up"].standing = arrives
    apart = Terms(retries=Retries(base_seconds=0.2))
    started = perf_counter()
    await asyncio.gather(*(world.ask(ONE, terms=apart) for _ in range(10)))
    assert min(arrived) - started >= 0.05
    assert max(arrived) - min(arrived) > 0.05


RESETS = {"x-ratelimit-remaining-requests": "4999", "x-ratelimit-reset-requests": "30s"}


@pytest.mark.parametrize(
    ("status", "headers", "left_alone"),
    [
        (503, {"retry-after": "30"}, True),
        (500, RESETS, False),  # they come with every answer
        (429, RESETS, True),
        (400, {"retry-after": "30"}, False),
    ],
)
async def test_what_is_a_wish_to_be_left_alone(
    world: World, status: int, headers: dict[str, str], left_alone: bool
) -> None:
    world["a"].script.append((status, headers, b"{}"))
    with suppress(UpstreamError):
        await world.ask(TWO)
    state = world.deployments.of(TWO)[0]
    shut = state.shut()
    assert (shut is not None and shut.seconds > 25) is left_alone


# --- breakers --------------------------------------------------------------------------------


async def test_one_whose_breaker_is_open_is_passed_over(world: World) -> None:
    world["a"].standing = UpstreamCut("cut")
    for _ in range(4):
        await world.ask(TWO)
    await world.ask(TWO)
    assert world.tried == ["b"]


async def test_when_all_are_open_one_is_asked_all_the_same(world: World) -> None:
    world["a"].standing = world["b"].standing = 503
    for _ in range(4):
        with pytest.raises(UpstreamServerError):
            await world.ask(TWO, terms=NO_RETRIES)
    states = [world.deployments.get(name) for name in ("a", "b")]
    assert [state and state.breaker.state for state in states] == ["open", "open"]
    world["a"].standing = None
    await world.ask(TWO)
    assert world.tried == ["a"]
    assert states[0] is not None
    assert states[0].breaker.state == "half_open", "that it answered is worth a probe at once"


async def test_the_next_model_is_asked_before_one_that_is_open(world: World) -> None:
    world["up"].standing = UpstreamCut("cut")
    for _ in range(4):
        with pytest.raises(UpstreamCut):
            await world.ask(ONE)
    await world.ask(ONE, TWO)
    assert world.tried == ["a"]
    world["a"].standing = world["b"].standing = UpstreamCut("cut")
    with pytest.raises(UpstreamCut):
        await world.ask(ONE, TWO)
    assert world.tried == ["a", "b", "one"], "at last, rather than failing without a try"


def opened(world: World, *names: str) -> list[DeploymentState]:
    states = [state for name in names if (state := world.deployments.get(name)) is not None]
    for state in states:
        state.breaker.open("errors")
    return states


async def test_of_those_that_are_open_the_plans_first_model_is_asked_first(world: World) -> None:
    """That another one failed less, or its time is over sooner, is not worth another model."""
    first = opened(world, "one", "a", "b")[0]
    first.breaker.window.add(failed=True, slow=False)
    first.breaker.until = (first.breaker.until or 0) + 1
    await world.ask(ONE, TWO)
    assert world.tried == ["one"]


@pytest.mark.parametrize(
    ("first", "second", "served_by"),
    [
        (None, None, "one"),
        (None, True, "other"),
        (None, False, "one"),
        (False, None, "other"),
        (False, True, "other"),
        (False, False, "one"),
        (True, True, "one"),
    ],
)
async def test_of_those_that_are_open_one_whose_probe_went_better_is_asked_before(
    first: bool | None, second: bool | None, served_by: str
) -> None:
    world = World(UpstreamPolicy(BreakerSettings(probes=2), retries=QUICK))
    world.configure(ONE, OTHER)
    for state, well in zip(opened(world, "one", "fine"), (first, second), strict=True):
        if well is not None:
            state.breaker.probed(good=well)
    await world.ask(ONE, OTHER)
    assert world.record.model == served_by


async def test_a_hurried_client_opens_no_breaker(world: World) -> None:
    world["up"].standing = UpstreamTimeout("late")
    for _ in range(20):
        with pytest.raises(UpstreamTimeout):
            await world.ask(ONE, asked=Asked(total_seconds=0.5))
    state = world.deployments.get("one")
    assert state is not None
    assert (state.breaker.state, state.in_flight) == ("closed", 0)


async def test_retries_are_held_to_their_budget(world: World) -> None:
    """An outage must not be met with three times the load."""
    calm = model("calm")
    world.policy = UpstreamPolicy(breaker=None, retries=QUICK)
    world.configure(calm)
    world["up"].standing = 503
    for _ in range(100):
        with pytest.raises(UpstreamServerError):
            await world.ask(calm)
    assert 100 + 20 <= len(world["up"].asked) <= 100 + 20 + 10 + 5


async def test_a_retry_that_is_not_sent_takes_nothing_from_its_deployments_limits(
    world: World,
) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(requests_per_minute=4)))
    world.configure(narrow)
    state = world.deployments.get("a")
    assert state is not None
    while state.budget.withdraw():
        pass
    world["a"].standing = 503
    for _ in range(2):
        with pytest.raises(UpstreamServerError):
            await world.ask(narrow)
    world["a"].standing = None
    for _ in range(2):
        await world.ask(narrow)
    assert len(world["a"].asked) == 4


async def test_a_retry_that_finds_no_room_costs_nothing_of_the_budget(world: World) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(requests_per_minute=1)))
    world.configure(narrow)
    world["a"].standing = 503
    state = world.deployments.get("a")
    assert state is not None
    before = state.budget.left
    with pytest.raises(UpstreamServerError):
        await world.ask(narrow, terms=Terms(retries=Retries(base_seconds=0.001, wait_seconds=0)))
    assert state.budget.left >= before
    assert len(world["a"].asked) == 1


# --- limits of a deployment ------------------------------------------------------------------


async def test_its_limits_are_kept_before_it_refuses(world: World) -> None:
    narrow = model(
        "narrow", place("a", DeploymentLimits(requests_per_minute=2)), place("b", priority=1)
    )
    world.configure(narrow)
    served = []
    for _ in range(3):
        await world.ask(narrow)
        served += world.tried
    assert served == ["a", "a", "b"]


async def test_tokens_are_given_back_for_what_was_used(world: World) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(tokens_per_minute=1_000)))
    world.configure(narrow)
    for _ in range(5):  # 800 are taken for each, and 15 used
        await world.ask(narrow, max_tokens=800)
    with pytest.raises(UpstreamRateLimited) as caught:
        await world.ask(narrow, max_tokens=2_000)
    assert caught.value.headers == (), "no waiting helps"


async def test_what_the_provider_would_take_may_be_more_than_a_processs_part(world: World) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(tokens_per_minute=1_000)))
    world.deployments.configure([narrow], {"a": POLICY}, None, 4)
    await world.ask(narrow, max_tokens=800)
    assert world.tried == ["narrow"]
    with pytest.raises(UpstreamRateLimited):
        await world.ask(narrow, max_tokens=2_000)


@pytest.mark.parametrize("way", ["whole", "failed", "cancelled", "stream", "stream left"])
async def test_a_slot_comes_back_on_every_way_out(world: World, way: str) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(parallel_requests=1)))
    world.configure(narrow)
    if way == "failed":
        world["a"].script.append(UpstreamCut("cut"))
        with pytest.raises(UpstreamCut):
            await world.ask(narrow)
    elif way == "cancelled":
        asked, never = asyncio.Event(), asyncio.Event()

        async def hangs() -> None:
            asked.set()
            await never.wait()

        world["a"].script.append(hangs)
        task = asyncio.ensure_future(world.ask(narrow))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        result = await world.ask(narrow, stream=way != "whole")
        if isinstance(result, Opened):
            state = world.deployments.get("a")
            assert state is not None
            assert state.in_flight == 1
            relay = Relay(result, lambda outcome: None)
            if way == "stream":
                assert [block async for block in relay.events()]
            relay.close()
            relay.close()
    assert isinstance(await world.ask(narrow, terms=NO_RETRIES), Whole)
    state = world.deployments.get("a")
    assert state is not None
    assert state.in_flight == 0


async def test_who_finds_no_slot_is_served_when_one_is_free(world: World) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(parallel_requests=1)))
    world.configure(narrow)
    asked, go = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        asked.set()
        await go.wait()

    world["a"].script.append(waits)
    first = asyncio.ensure_future(world.ask(narrow))
    await asked.wait()
    second = asyncio.ensure_future(world.ask(narrow))
    await asyncio.sleep(0)
    started = perf_counter()
    go.set()
    await asyncio.gather(first, second)
    assert perf_counter() - started < 0.5, "it need not look again by the clock"


async def test_one_that_is_open_and_full_is_no_endless_loop(world: World) -> None:
    narrow = model("narrow", place("a", DeploymentLimits(parallel_requests=1)))
    world.configure(narrow)
    state = world.deployments.get("a")
    assert state is not None
    held = state.admit(1, stream=False)
    assert isinstance(held, Seat)
    state.breaker.open("errors")
    short = Terms(retries=Retries(wait_seconds=0.05))
    with pytest.raises(UpstreamRateLimited):
        await asyncio.wait_for(world.ask(narrow, terms=short), 5)
    held.end("unknown")
    await world.ask(narrow)
    assert world.tried == ["narrow"]


# --- too long, and not wanted ----------------------------------------------------------------

LONG = refused("prompt is too long: 9000 tokens > 8000 maximum")


async def test_too_long_moves_on_to_larger_windows_only(world: World) -> None:
    small, same, large = (
        model(name, place(name), context_window=window)
        for name, window in (("small", 8_000), ("same", 8_000), ("large", 32_000))
    )
    unsaid = model("unsaid", place("unsaid"))
    world.configure(small, same, large, unsaid)
    world["small"].standing = LONG
    await world.ask(small, same, large)
    assert world.tried == ["small", "large"]
    with pytest.raises(ContextTooLong):
        await world.ask(small, same)
    assert world.tried == ["small"]
    world["unsaid"].standing = LONG  # its window is told by what it says
    await world.ask(unsaid, same, large)
    assert world.tried == ["unsaid", "large"]
    await world.ask(small, model("nobody-knows", place("x")))
    assert world.tried == ["small", "nobody-knows"]


async def test_too_long_for_less_than_its_window_says_nothing_of_models_between(
    world: World,
) -> None:
    """As where an operator serves it with less than it can."""
    claims = model("claims", place("claims"), context_window=128_000)
    between = model("between", place("between"), context_window=32_000)
    world.configure(claims, between)
    world["claims"].standing = LONG
    await world.ask(claims, between)
    assert world.tried == ["claims", "between"]


async def test_too_long_is_not_asked_of_the_models_other_deployments(world: World) -> None:
    world["a"].standing = LONG
    await world.ask(TWO, ONE)
    assert world.tried == ["a", "one"]


async def test_refused_content_follows_the_routes_rule(world: World) -> None:
    world["a"].standing = refused("No.", code="content_filter")
    with pytest.raises(ContentRefused):
        await world.ask(TWO, ONE)
    assert world.tried == ["a"]
    on = Terms(on_content_refusal="next_model")
    await world.ask(TWO, ONE, terms=on)
    assert world.tried == ["a", "one"]
    world["up"].standing = UpstreamCut("cut")
    with pytest.raises(ContentRefused):  # what is said of the content is the more telling
        await world.ask(TWO, ONE, terms=on)


# --- times -----------------------------------------------------------------------------------


async def test_times_are_the_upstreams_the_routes_and_the_clients(world: World) -> None:
    upstream = world["up"]
    await world.ask(ONE)
    assert upstream.times[-1] is upstream.timeouts
    await world.ask(ONE, terms=Terms(TimeoutsOrNone(first_byte=2, idle=3)))
    assert (upstream.times[-1].first_byte, upstream.times[-1].idle) == (2, 3)
    await world.ask(ONE, asked=Asked(total_seconds=4, first_token_seconds=1))
    assert upstream.times[-1].first_byte == 1
    assert upstream.times[-1].total == pytest.approx(4, abs=0.2)
    await world.ask(ONE, asked=Asked(total_seconds=4_000, first_token_seconds=4_000))
    assert upstream.times[-1].total == pytest.approx(10, abs=0.2), "capped by what is configured"


async def test_each_attempt_has_what_is_left(world: World) -> None:
    async def late() -> Any:
        await asyncio.sleep(0.1)
        return UpstreamTimeout("late")

    world["a"].standing = late
    await world.ask(TWO, terms=Terms(TimeoutsOrNone(total=1.0)))
    assert world["b"].times[-1].total <= 0.9
    with pytest.raises(UpstreamTimeout):
        await world.ask(TWO, terms=Terms(TimeoutsOrNone(total=0.08)))
    assert world.tried == ["a"], "there was no time for another"


# --- the promise -----------------------------------------------------------------------------

FAULTS: list[Any] = [
    500, 503, 529, 408, 401, 404, limited(60), limited(None), ConnectFailed("no"),
    UpstreamCut("cut"), UpstreamTimeout("late"), StaleConnection("closed"), (200, {}, b"nonsense"),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([None, *FAULTS]), min_size=4, max_size=4),
            st.integers(0, 3),
            st.booleans(),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_what_any_deployment_could_serve_is_served(
    requests: list[tuple[list[Any], int, bool]],
) -> None:
    """Whatever has happened before, and however the others fail: but for a client's own mistake,
    and a wish to be left alone that is longer than may be waited for."""

    async def run() -> None:
        world = World()
        two = model("two", place("a"), place("b"), balance="least-latency")
        others = model("three", place("c"), place("d", priority=1), balance="least-busy")
        world.configure(two, others)
        for faults, healthy, stream in requests:
            for name, fault in zip("abcd", faults, strict=True):
                world[name].standing = fault
            name = "abcd"[healthy]
            world[name].standing = None
            state = world.deployments.get(name)
            assert state is not None
            state.cooldown_until = 0.0
            result = await world.ask(two, others, stream=stream)
            if isinstance(result, Opened):
                Relay(result, lambda outcome: None).close()
            assert len(world.tried) <= 12
            assert [one.in_flight for one in world.deployments] == [0, 0, 0, 0]

    asyncio.run(run())
