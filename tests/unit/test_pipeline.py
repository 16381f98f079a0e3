"""How a prediction comes about: at the first speed at which its choice is clear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from app.accounting.caller import ANONYMOUS, Caller
from app.accounting.limiter import Limiter
from app.accounting.limits import Limits
from app.accounting.settlement import Settlement
from app.catalog.model import Model, Prices
from app.delivery.upstreams.base import Timeouts
from app.errors import BudgetExhausted, BudgetReserved, InvalidField, LimitReached
from app.exchange.record import Record
from app.exchange.reply import Reply
from app.exchange.request import Request
from app.pipeline import Pipeline
from app.routing.bounds import size
from app.routing.conversation.affinity import Conversation
from app.routing.conversation.sessions import Session, Sessions
from app.routing.decider import Decider
from app.routing.decision import Decision
from app.routing.encoder import Embedder
from app.routing.estimators.remembered import Remembered
from app.routing.facts import inspect
from app.routing.margin import Margin
from app.routing.names import Names
from app.routing.objective import Quality
from app.routing.route import Affinity, Route
from app.state.memory import MemoryState
from app.telemetry.metrics import Metrics
from app.wire import openai_chat
from tests.readers import CountingEncoder, Reader

SMALL = Model("small", "u", "s", Prices(100, 400))
LARGE = Model("large", "u", "l", Prices(2_500, 10_000))


class World:
    """A pipeline over the known router, and what became of what was asked of it."""

    def __init__(self, encode: Any = "when-unsure", margin: float = 1.0, **reader: bool) -> None:
        self.encoder = CountingEncoder()
        self.embedder = Embedder(self.encoder)
        self.route = Route(
            name="auto",
            candidates=(SMALL, LARGE),
            baseline=LARGE,
            objective=Quality(),
            estimator=Remembered(Reader(["small", "large"], **reader), 100),
            encode=encode,
            margin=Margin(margin),
        )
        self.metrics = Metrics(CollectorRegistry())
        names = Names({"auto": self.route}, {"small": SMALL, "large": LARGE})
        limits = Limiter(MemoryState(), {}, (SMALL, LARGE), self.metrics)
        decider = Decider(self.embedder, self.metrics)
        settlement = Settlement(names.models, self.metrics, limits)
        self.pipeline = Pipeline(names, {}, decider, limits, settlement, self.metrics)

    async def decide(self, text: str) -> Decision:
        request = parsed(text)
        record = Record("r", request.started, request.received)
        target = self.pipeline.admit(request, record, ANONYMOUS)
        facts = inspect(request.payload)
        applied = self.pipeline.limits.applied(ANONYMOUS, record.route)
        most = size(request, facts, record.at)
        return await self.pipeline.decide(target, facts, record, applied, most)

    async def explain(self, text: str, neighbours: int = 3) -> dict[str, Any]:
        return await self.pipeline.explain(parsed(text), neighbours, ANONYMOUS)

    def predictions(self, speed: str) -> float:
        labels = {"route": "auto", "speed": speed}
        return self.metrics.registry.get_sample_value("pointsman_predictions_total", labels) or 0


def parsed(text: str) -> Request:
    body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]})
    now = perf_counter()
    return openai_chat.parse(body, request_id="r", started=now, received=now, max_images=0)


@pytest.fixture
async def world() -> AsyncIterator[Callable[..., World]]:
    made: list[World] = []

    def make(*arguments: Any, **options: Any) -> World:
        made.append(World(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.embedder.close()


Make = Callable[..., World]


@pytest.mark.parametrize(
    ("encode", "margin", "text", "speed"),
    [
        ("when-unsure", 1.0, "plain", "text"),
        ("when-unsure", 1.0, "unclear", "encoded"),
        ("when-unsure", 1.0, "novel", "encoded"),
        ("when-unsure", 10.0, "plain", "encoded"),
        ("when-unsure", 0.0, "unclear", "text"),
        ("always", 1.0, "plain", "encoded"),
        ("never", 1.0, "unclear and novel", "text"),
    ],
)
async def test_the_speed_and_what_it_decides(
    world: Make, encode: str, margin: float, text: str, speed: str
) -> None:
    one = world(encode, margin)
    decision = await one.decide(text)
    assert decision.speed == speed
    assert decision.chosen is (SMALL if speed == "text" else LARGE)
    assert one.encoder.encoded == ([] if speed == "text" else [text])
    assert one.predictions(speed) == 1


async def test_the_margin_learns_from_what_the_chat_door_reads(world: Make) -> None:
    one = world()
    await one.decide("unclear")
    fallen = one.route.margin.value
    assert fallen < 1.0
    await one.decide("unclear")  # its vector is at hand
    await one.explain("another that is unclear")
    assert one.route.margin.value == fallen
    await one.decide("plain")
    assert one.route.margin.value > fallen


async def test_what_cannot_read_is_encoded(world: Make) -> None:
    one = world(reads_text=False)
    assert (await one.decide("plain")).speed == "encoded"


async def test_a_vector_at_hand_is_used(world: Make) -> None:
    one = world()
    await one.decide("unclear")
    assert (await one.decide("unclear")).speed == "cached"
    await one.embedder.embed("plain")
    assert (await one.decide("plain")).speed == "cached"
    assert one.encoder.encoded == ["unclear", "plain"]
    assert (one.predictions("encoded"), one.predictions("cached")) == (1, 2)


async def test_never_is_never(world: Make) -> None:
    """Not even a vector at hand, or the answer would hang on what was asked before."""
    one = world("never")
    await one.embedder.embed("plain")
    assert (await one.decide("plain")).chosen is SMALL
    assert (await one.explain("plain"))["neighbours"] == []


async def test_explaining_shows_what_chat_does_before_and_after(world: Make) -> None:
    one = world()
    for text, speed, model in (("plain", "text", "small"), ("unclear", "encoded", "large")):
        told = await one.explain(text)
        assert (told["speed"], told["model"], told["encode"]) == (speed, model, "when-unsure")
        assert len(told["neighbours"]) == 3
        assert (await one.decide(text)).chosen.name == model
    assert one.predictions("text") == 1
    doubts = [c["quality_doubt"] for c in (await one.explain("plain"))["candidates"]]
    assert doubts == [0.01, 0.01]


async def test_nothing_is_encoded_where_nothing_is_predicted(world: Make) -> None:
    one = world("always")
    request = openai_chat.parse(
        b'{"model": "small", "messages": [{"role": "user", "content": "x"}]}',
        request_id="r",
        started=0.0,
        received=0.0,
        max_images=0,
    )
    told = await one.pipeline.explain(request, 3, ANONYMOUS)
    assert (told["speed"], told["encode"]) == (None, None)
    assert (await one.decide("")).speed == "text"
    assert one.encoder.encoded == []


async def test_an_encoder_that_fails_fails_no_request(world: Make) -> None:
    one = world()
    decision = await one.decide("unclear and broken")
    assert (decision.chosen, decision.reason, decision.speed) == (LARGE, "prediction_failed", None)
    assert (await one.decide("plain and broken")).speed == "text"


class Blocking:
    """An upstream that answers nobody."""

    name = "u"
    stream_usage = True
    timeouts = Timeouts(connect=1, first_byte=10, idle=10, total=10)

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def post(self, path: str, body: bytes, timeouts: Any = None) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    def mentions_secret(self, body: bytes) -> bool:
        return False


async def test_the_slot_of_a_caller_who_leaves_is_free_again(world: Make) -> None:
    pipeline = world().pipeline
    upstream = Blocking()
    pipeline.upstreams = {"u": upstream}
    caller = Caller("k", limits=Limits(parallel_requests=1))
    asking = asyncio.ensure_future(pipeline.chat(parsed("plain"), caller))
    await upstream.asked.wait()
    refused = await pipeline.chat(parsed("plain"), caller)
    assert isinstance(refused, Reply)
    assert (refused.status, dict(refused.headers)["x-pointsman-limit"]) == (
        429,
        "key parallel_requests",
    )
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    upstream.asked.clear()
    asking = asyncio.ensure_future(pipeline.chat(parsed("plain"), caller))
    await upstream.asked.wait()
    asking.cancel()


@pytest.mark.parametrize("broken", ["charge", "count"])
async def test_a_bug_in_settling_keeps_no_slot(
    world: Make, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does it fail the request, or count a cost that nobody knows as 0."""

    def fails(*_: Any) -> None:
        raise RuntimeError

    pipeline = world().pipeline
    pipeline.upstreams = {"u": Answering()}
    if broken == "charge":
        monkeypatch.setattr("app.accounting.settlement.charge", fails)
    else:
        monkeypatch.setattr(Metrics, "settle", fails)
    caller = Caller("k", limits=Limits(parallel_requests=1, in_all=10**9))
    for _ in range(2):
        reply = await pipeline.chat(parsed("plain"), caller)
        assert isinstance(reply, Reply)
        assert reply.status == 200
    assert "was not settled whole" in caplog.text
    slots, money = (
        pipeline.limits.state.peek(next(one for one in limits if one.kind == kind))
        for limits in [pipeline.limits.applied(caller, "auto").limits]
        for kind in ("parallel", "usd")
    )
    assert slots is not None
    assert slots.used == 0
    assert money is not None
    assert money.held == 0
    assert money.settled > 0


class Answering(Blocking):
    """An upstream that answers everybody."""

    async def post(self, path: str, body: bytes, timeouts: Any = None) -> Any:
        return Answer()


class Answer:
    status = 200

    async def read(self, most: int = 0) -> bytes:
        usage = {"prompt_tokens": 10, "completion_tokens": 1_000_000}
        choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}}
        return orjson.dumps({"id": "c", "model": "s", "choices": [choice], "usage": usage})

    def close(self) -> None:
        """Nothing is open."""


async def test_a_second_reservation_has_a_name_of_its_own_and_both_are_one_decision(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Redis was asked for and did not answer in time is given up by its name, perhaps later
    than the second one is made."""
    one = world()
    one.pipeline.names = Names({"auto": replace(one.route, thrifty=one.route)}, {})
    asked: list[str] = []

    async def refuses(self: Limiter, id_: str, *_: Any) -> None:
        asked.append(id_)
        raise BudgetReserved("full", limit="key usd_in_all", headers=())

    monkeypatch.setattr(Limiter, "reserve", refuses)
    reply = await one.pipeline.chat(parsed("plain"), Caller("k", limits=Limits(in_all=1_000)))
    assert isinstance(reply, Reply)
    assert reply.status == 429
    assert len(asked) == len(set(asked)) == 2
    counted = one.metrics.registry.get_sample_value
    for name in ("pointsman_decision_seconds_count", "pointsman_novelty_ratio_count"):
        assert counted(name, {"route": "auto"}) == 1


@pytest.mark.parametrize("thrifty", [False, True])
async def test_a_conversation_stays_nowhere_that_its_budget_has_no_room_for(
    world: Make, *, thrifty: bool
) -> None:
    one = world()
    route = replace(one.route, thrifty=one.route if thrifty else None)
    request, caller = parsed("plain"), Caller("k", limits=Limits(in_all=20))
    facts, record = inspect(request.payload), Record("r", request.started, request.received)
    session = Session("large", 0.0, 0, "", escalated=True)
    talk = Conversation(Affinity(), Sessions(), request, "auto", caller, facts, session=session)
    limits = one.pipeline.limits
    most, applied = size(request, facts, record.at), limits.applied(caller, "auto")
    decision = await one.pipeline.decide(route, facts, record, applied, most, talk)
    assert decision.chosen is SMALL
    assert record.decision == "learned"
    with pytest.raises(BudgetExhausted):
        await one.pipeline.decide(route, facts, record, applied, replace(most, choices=100), talk)


async def test_explaining_counts_as_a_request_of_the_minute(world: Make) -> None:
    """It may encode; it takes neither money nor a slot, so who has no money left may ask."""
    one = world()
    caller = Caller("k", limits=Limits(requests_per_minute=1, parallel_requests=1, in_all=0))
    assert (await one.pipeline.explain(parsed("plain"), 0, caller))["model"] == "small"
    with pytest.raises(LimitReached) as refused:
        await one.pipeline.explain(parsed("unclear"), 0, caller)
    assert dict(refused.value.headers)["x-pointsman-limit"] == "key requests_per_minute"
    assert one.encoder.encoded == []


async def test_a_request_refused_before_it_had_a_route_is_kept_of_who_has_a_key(
    world: Make,
) -> None:
    pipeline = world().pipeline
    kept: list[Record] = []
    pipeline.settlement.ledger = kept  # type: ignore[assignment]
    unknown = replace(parsed("plain"), model="nope")
    error = InvalidField("`messages` is missing.", param="messages")
    for caller in (ANONYMOUS, Caller("k", tags=("t",))):
        assert (await pipeline.chat(unknown, caller)).status == 404
        assert pipeline.refuse("r2", 0.0, error, caller).status == 400
    told = [(one.request_id, one.route, one.key_id, one.tags, one.status) for one in kept]
    assert told == [("r", "none", "k", ("t",), 404), ("r2", "none", "k", ("t",), 400)]
