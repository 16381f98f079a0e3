"""What can be continued, and what the next model is given."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

import orjson
import pytest

from app.api import wire
from app.delivery.attempt import Opened
from app.delivery.continuation import Continuing, is_plain, text_of, with_prefix
from app.exchange.reply import StreamReply
from app.exchange.request import Request
from app.wire import openai_chat, sse
from tests.unit.delivery.fakes import World, model, parsed

ONE = model("one")
PLAIN: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Count."}]}


@pytest.mark.parametrize(
    ("more", "plain"),
    [
        ({}, True),
        ({"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": False}, True),
        ({"n": 2}, False),
        ({"tools": [{"type": "function"}]}, False),
        ({"functions": [{}]}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"logprobs": True}, False),
        ({"audio": {"voice": "x"}}, False),
    ],
)
def test_only_plain_text_is_continued(more: dict[str, Any], plain: bool) -> None:
    assert is_plain({**PLAIN, **more}) is plain


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "c", "choices": [choice]}) + b"\n\n"


FIRST = event({"role": "assistant", "content": "", "refusal": None})


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (FIRST + event({"content": "one "}) + b": c\n\n" + event({"content": "two"}), "one two"),
        (FIRST + event({"content": "one"}) + b'data: {"error":{"message":"x"}}\n\n', "one"),
        (FIRST, None),
        (b"", None),
        (FIRST + event({"content": "one"}) + event({}, "stop"), None),
        (FIRST + event({"tool_calls": [{"index": 0}]}), None),
        (FIRST + event({"reasoning_content": "hm"}), None),
        (FIRST + event({"content": "a"}, index=1), None),
        (event({"refusal": "no"}), None),
        (event({"content": [{"type": "text", "text": "x"}]}), None),
        (b'data: {"choices":[3]}\n\n', None),
    ],
)
def test_the_text_that_had_come(stream: bytes, text: str | None) -> None:
    assert text_of(stream) == text


def test_the_next_model_is_given_the_prefix_and_less_room() -> None:
    body = orjson.dumps({**PLAIN, "max_tokens": 10, "mine": 1.5, "stream": True})
    now = perf_counter()
    request = openai_chat.parse(body, request_id="r", started=now, received=now, max_images=0)
    rest = with_prefix(request, "one two three")
    sent = orjson.loads(rest.body)
    assert sent == rest.payload
    assert sent["messages"] == [
        *PLAIN["messages"],
        {"role": "assistant", "content": "one two three"},
    ]
    assert sent["max_tokens"] == 7
    assert sent["mine"] == 1.5
    assert (
        orjson.loads(request.body)["messages"] == request.payload["messages"] == PLAIN["messages"]
    )
    assert with_prefix(request, "x" * 1000).payload["max_tokens"] == 1


@pytest.mark.parametrize("goes_on", [True, False])
async def test_the_time_of_the_one_that_broke_is_not_that_of_the_next(
    monkeypatch: pytest.MonkeyPatch, *, goes_on: bool
) -> None:
    """It may end while the next one is asked, which has its own."""
    monkeypatch.setattr(wire, "_READER_GRACE_SECONDS", 0.0)
    world, one = World(), model("one")
    world.configure(one)
    now = asyncio.get_running_loop().time
    world["up"].script.append((200, {}, FIRST + event({"content": "One, "})))
    opened = await world.ask(one, stream=True)
    assert isinstance(opened, Opened)
    opened.answer.deadline = now() + 0.05

    async def following(rest: Request) -> tuple[Opened, str] | None:
        await asyncio.sleep(0.1)
        found = await world.ask(one, stream=True) if goes_on else None
        return (found, "one") if isinstance(found, Opened) else None

    outcomes: list[str] = []
    relay = Continuing(
        parsed(stream=True), opened, following,
        noted=lambda part, outcome: None, ended=outcomes.append,
    )  # fmt: skip
    reply = StreamReply(relay.events(), relay.close, relay.deadline)
    relay.moved = partial(setattr, reply, "deadline")
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await wire.send_stream(send, reply)
    told = b"".join(sent)
    assert outcomes == (["ok"] if goes_on else ["cut"])
    assert (b"Yes." in told and b"[DONE]" in told) if goes_on else b"upstream_cut" in told
    assert reply.deadline is not None
    assert reply.deadline > now() + 5 if goes_on else reply.deadline <= now()


async def broken(world: World) -> Opened:
    """A stream of plain text that breaks off."""
    world["up"].script.append((200, {}, FIRST + event({"content": "One, "})))
    opened = await world.ask(ONE, stream=True)
    assert isinstance(opened, Opened)
    return opened


async def test_comments_come_while_the_next_model_has_not_begun() -> None:
    world = World()
    world.configure(ONE)
    thought = asyncio.Event()

    async def following(rest: Request) -> tuple[Opened, str] | None:
        await thought.wait()
        found = await world.ask(ONE, stream=True)
        return (found, "one") if isinstance(found, Opened) else None

    outcomes: list[str] = []
    relay = Continuing(
        parsed(stream=True), await broken(world), following,
        noted=lambda part, outcome: None, ended=outcomes.append, comment_seconds=0.001,
    )  # fmt: skip
    comments, told = 0, b""
    async with asyncio.timeout(5):
        async for block in relay.events():
            comments += block == sse.KEEP_ALIVE
            told += block
            if comments == 3:
                thought.set()
    relay.close()
    assert b"Yes." in told
    assert outcomes == ["ok"]


@pytest.mark.parametrize("in_the_same_moment", [False, True])
async def test_who_leaves_while_the_next_model_is_asked_leaves_nobody_at_work(
    *, in_the_same_moment: bool
) -> None:
    world = World()
    world.configure(ONE)
    begun: list[Opened] = []
    what_happened: list[str] = []

    async def following(rest: Request) -> tuple[Opened, str] | None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            what_happened.append("cancelled")
            if not in_the_same_moment:
                raise
        found = await world.ask(ONE, stream=True)
        assert isinstance(found, Opened)
        begun.append(found)
        return found, "one"

    relay = Continuing(
        parsed(stream=True), await broken(world), following,
        noted=lambda part, outcome: what_happened.append(f"noted {outcome}"),
        ended=lambda outcome: what_happened.append(f"ended {outcome}"), comment_seconds=0.001,
    )  # fmt: skip
    comments = 0
    async for block in relay.events():
        comments += block == sse.KEEP_ALIVE
        if comments == 2:
            break
    relay.close()
    relay.close()
    for _ in range(20):
        await asyncio.sleep(0)
    after = ["cancelled", *(["noted client_gone"] * in_the_same_moment), "ended client_gone"]
    assert what_happened == ["noted cut", *after], "booked when nobody is at work any more"
    assert all(getattr(one.answer, "closed", False) for one in begun)
    assert len(begun) == in_the_same_moment
