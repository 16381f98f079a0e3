"""What is known of deployments: latency, outliers, and what a new configuration leaves of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from app.catalog.model import DeploymentLimits
from app.delivery.deployment import DeploymentState, Seat, UpstreamPolicy
from app.delivery.deployments import Deployments
from app.delivery.health import BreakerSettings
from app.telemetry.metrics import Metrics
from tests.unit.delivery.fakes import model, place

SETTINGS = BreakerSettings(min_requests=10, error_ratio=0.5)
POLICIES = {name: UpstreamPolicy(SETTINGS, max_cooldown_seconds=60) for name in "abc"}
MODEL = model("m", place("a"), place("b"), place("c"))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deployments(clock: Clock) -> Deployments:
    one = Deployments(clock=clock, random=Random(3))
    one.configure([MODEL], POLICIES, Metrics(CollectorRegistry()), 1)
    return one


def state_of(deployments: Deployments, name: str) -> DeploymentState:
    state = deployments.get(name)
    assert state is not None
    return state


def send(state: DeploymentState, *, good: bool = True) -> None:
    seat = state.admit(1, stream=True)
    assert isinstance(seat, Seat)
    seat.end("ok" if good else "failed")


def test_an_outlier_is_put_out_first_and_one_of_three_at_most(deployments: Deployments) -> None:
    a, b, c = (state_of(deployments, name) for name in "abc")
    for state in (a, b, c):
        for _ in range(10):
            send(state)
    events: list[str] = []
    deployments.on_event = lambda name, event, until: events.append(f"{event} {name}")
    for _ in range(3):
        send(a, good=False)
    assert a.breaker.state == "open", "at 3 in 13, long before half of them"
    assert events == ["open a"]
    for _ in range(4):
        send(b, good=False)
    assert b.breaker.state == "closed", "half of three would not stay"
    for _ in range(6):
        send(b, good=False)
    assert b.breaker.state == "open", "its own breaker minds nobody"


def test_latency_follows_what_is_seen_and_forgets(deployments: Deployments, clock: Clock) -> None:
    a = state_of(deployments, "a")
    assert a.latency(stream=True) is None
    a.note_latency(1.0, stream=True)
    a.note_latency(2.0, stream=True)
    assert a.latency(stream=True) == pytest.approx(1.1)
    clock.now += 60
    a.note_latency(3.0, stream=True)
    assert a.latency(stream=True) == pytest.approx(2.74, abs=0.01)
    assert a.latency(stream=False) is None
    clock.now += 121
    assert a.latency(stream=True) is None


def test_one_that_fails_half_the_time_is_failing_until_it_is_forgotten(
    deployments: Deployments, clock: Clock
) -> None:
    a = state_of(deployments, "a")
    assert not a.failing
    send(a, good=False)
    assert a.failing
    send(a)
    send(a)
    assert not a.failing
    send(a, good=False)
    send(a, good=False)
    assert a.failing
    clock.now += SETTINGS.window_seconds + 1
    assert not a.failing


def test_a_cooldown_is_no_longer_than_is_allowed(deployments: Deployments, clock: Clock) -> None:
    a = state_of(deployments, "a")
    a.cool_down(10_000)
    assert a.cooldown_until == clock.now + 60
    a.cool_down(5)
    assert a.cooldown_until == clock.now + 60, "a shorter one takes nothing off"
    clock.now += 60
    assert a.shut() is None


def test_a_new_configuration_keeps_what_goes_on_under_its_name(
    deployments: Deployments, clock: Clock
) -> None:
    a, b = state_of(deployments, "a"), state_of(deployments, "b")
    a.breaker.open("errors")
    b.cool_down(30)
    running = state_of(deployments, "c").admit(1, stream=True)
    assert isinstance(running, Seat)
    again = model("m", replace(place("a"), weight=5.0), place("b"), place("d"))
    metrics = Metrics(CollectorRegistry())
    deployments.configure([again], POLICIES, metrics, 1)
    assert deployments.of(again)[0] is a
    assert (a.weight, a.breaker.state) == (5.0, "open")
    assert b.cooldown_until == clock.now + 30
    assert deployments.get("c") is None
    assert state_of(deployments, "d").peers == deployments.of(again)
    running.end("ok")  # what ran at one that is gone ends as it should
    told = metrics.registry.get_sample_value("pointsman_deployment_state", {"deployment": "a"})
    assert told == 2


@pytest.mark.parametrize("what", ["upstream", "id", "key"])
def test_a_name_for_another_place_begins_anew(
    deployments: Deployments, clock: Clock, what: str
) -> None:
    """Whoever moves it because it fails, or asks to be left alone, wants it asked at once."""
    a = state_of(deployments, "a")
    a.breaker.open("errors")
    a.cool_down(30)
    a.note_latency(9.0, stream=True)
    moved, policies = place("a"), POLICIES
    if what == "key":
        policies = {"a": replace(POLICIES["a"], door="another key")}
    else:
        moved = replace(moved, **{"upstream" if what == "upstream" else "upstream_id": "b"})
    deployments.configure([model("m", moved)], policies, None, 1)
    assert state_of(deployments, "a") is a
    assert (a.shut(), a.breaker.state, a.latency(stream=True)) == (None, "closed", None)


def test_one_that_is_gone_is_told_of_no_more(clock: Clock) -> None:
    """Else it would be alerted of as failing until the next restart."""
    metrics = Metrics(CollectorRegistry())
    deployments = Deployments(clock=clock)
    both = model("m", place("a"), place("b"))
    deployments.configure([both], POLICIES, metrics, 1)
    state_of(deployments, "a").breaker.open("errors")
    deployments.configure([model("m", place("b"))], POLICIES, metrics, 1)
    told = metrics.registry.get_sample_value
    assert told("pointsman_deployment_state", {"deployment": "a"}) is None
    # Nor by the requests that began before, which still ask it.
    late = deployments.of(both)[0]
    late.breaker.open("errors")
    assert told("pointsman_deployment_state", {"deployment": "a"}) is None
    assert deployments.of(both)[0] is late
    assert [state.name for _, state in deployments.by_model()] == ["b"]
    deployments.configure([both], POLICIES, metrics, 1)
    assert told("pointsman_deployment_state", {"deployment": "a"}) == 0


def test_each_process_has_its_part_of_a_limit(clock: Clock) -> None:
    narrow = model("n", place("a", DeploymentLimits(parallel_requests=8)))
    deployments = Deployments(clock=clock)
    deployments.configure([narrow], {}, None, 4)
    state = state_of(deployments, "a")
    seats = [state.admit(1, stream=False) for _ in range(3)]
    assert [isinstance(seat, Seat) for seat in seats] == [True, True, False]


def test_one_that_knows_the_conversation_goes_before_its_equals(clock: Clock) -> None:
    many = model("n", place("a"), place("b"), place("c"), place("backup", priority=1))
    deployments = Deployments(clock=clock, random=Random(3))
    deployments.configure([many], {}, None, 1)

    def firsts(first: str | None) -> set[str]:
        return {deployments.order(many, stream=False, first=first)[0].name for _ in range(50)}

    assert firsts(None) == {"a", "b", "c"}
    assert firsts("b") == {"b"}
    # What is only there for need is not preferred to what is well again.
    assert firsts("backup") == firsts("gone") == {"a", "b", "c"}
