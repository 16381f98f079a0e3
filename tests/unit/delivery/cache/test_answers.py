"""What is found in the cache, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.accounting.caller import Caller
from app.delivery.cache import replay
from app.delivery.cache.answers import Place
from app.delivery.cache.replay import Hit
from app.errors import NotCached
from app.exchange.usage import Usage
from app.wire import sse
from app.wire.openai_chat import StreamReader
from tests.caching import ANSWER, OTHER, World

Make = Callable[..., World]
STREAM = (
    b'data: {"id":"c","model":"s","choices":[{"index":0,"delta":{"role":"assistant",'
    b'"content":"Hi"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"id":"c","model":"s","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":null}\n\n'
    b'data: {"id":"c","model":"s","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    b"\n\ndata: [DONE]\n\n"
)


async def test_the_same_is_answered_again(world: Make) -> None:
    one = world()
    assert await one.ask() == "miss"
    one.now += 7.9
    assert await one.ask() == "hit exact: Hello"
    assert one.record.cache is not None
    assert (one.record.cache.age_seconds, one.record.cache.usage) == (7, Usage(3, 2))
    assert await one.ask("Bye") == "miss"
    assert one.encoder.encoded == []


async def test_an_answer_grows_old(world: Make) -> None:
    one = world(ttl_seconds=60)
    await one.ask()
    one.now += 59
    assert await one.ask(control="max-age=58") == "miss"
    one.now += 59
    assert await one.ask(control="max-age=59") == "hit exact: Hello"
    one.now += 1
    assert await one.ask() == "miss"


async def test_what_the_client_says(world: Make) -> None:
    one = world()
    assert await one.ask(control="no-store") == "miss"
    assert await one.ask(control="no-cache") == "bypass"
    one.now += 5
    assert await one.ask(control="no-cache") == "bypass"
    assert await one.ask(control="only-if-cached") == "hit exact: Hello"
    assert one.record.cache is not None
    assert one.record.cache.age_seconds == 0
    with pytest.raises(NotCached):
        await one.look("Bye", control="only-if-cached")
    with pytest.raises(NotCached):
        await one.look(control="only-if-cached", tool_results=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tool_results": 2}, "tool_results"),
        ({"temperature": 0.2}, "temperature"),
        ({"store": True}, "store"),
        ({"target": OTHER}, "off"),
    ],
)
async def test_what_is_never_kept(world: Make, options: dict[str, Any], reason: str) -> None:
    one = world()
    for _ in range(2):
        assert await one.ask(**options) == "bypass"
        assert one.record.cache is not None
        assert one.record.cache.reason == reason


async def test_an_answer_that_is_not_good_is_not_kept(world: Make) -> None:
    one = world()
    place = await one.look()
    assert isinstance(place, Place)
    one.record.model = "small"
    place.keep("whole", ANSWER.replace(b'"stop"', b'"length"'), one.record)
    assert await one.ask() == "miss"


async def test_keys_do_not_see_each_others_answers(world: Make) -> None:
    one = world(kind="semantic")
    ann, bob = Caller("ann"), Caller("bob")
    assert await one.ask("the word aaa", caller=ann) == "miss"
    assert await one.ask("the word aaa", caller=bob) == "miss"
    assert await one.ask("the word aaaa", caller=ann) == "hit similar: the word aaa"


async def test_what_was_kept_outlives_its_terms(world: Make) -> None:
    one, next_ = world(kind="semantic"), world(kind="semantic", ttl_seconds=60)
    await one.ask("the word aaa")
    next_.cache.succeed(one.cache)
    assert await next_.ask("the word aaa") == "hit exact: the word aaa"
    assert await next_.ask("the word aaaa") == "hit similar: the word aaa"
    smaller = world()
    smaller.cache.memory.bound(1, 10**6)
    await next_.ask("the last of them aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    smaller.cache.succeed(next_.cache)
    assert len(smaller.cache.memory) == 1


# --- similar questions ----------------------------------------------------------------------------


async def test_a_similar_question_is_answered(world: Make) -> None:
    one = world(kind="semantic", min_similarity=0.9995)  # three hundredths of an angle
    assert await one.ask("tell me about " + "a" * 10) == "miss"
    said = await one.ask("do tell me about " + "a" * 12)
    assert said == "hit similar: tell me about " + "a" * 10
    assert one.record.cache is not None
    assert one.record.cache.similarity == pytest.approx(np.cos(0.02), abs=1e-6)
    assert await one.ask("tell me about " + "a" * 20) == "miss"


async def test_similar_is_not_enough(world: Make) -> None:
    """Near in the vector, and yet another question, or another request around it."""
    one = world(kind="semantic", min_similarity=0.9)
    await one.ask("is it true that aaa")
    assert await one.ask("is it not true that aaa") == "miss"
    assert await one.ask("is it true that aaaa", max_tokens=5) == "miss"
    assert await one.ask("is it true that aaaaa", messages=[
        {"role": "system", "content": "No."}, {"role": "user", "content": "is it true that aaa"}
    ]) == "miss"  # fmt: skip
    assert await one.ask("is it true that aaaa") == "hit similar: is it true that aaa"


async def test_nothing_is_encoded_in_vain(world: Make) -> None:
    one = world(kind="semantic")
    await one.look("a question")
    assert one.encoder.encoded == []
    await one.ask("a question")
    assert one.encoder.encoded == ["a question"]
    await one.ask("a question")
    assert one.encoder.encoded == ["a question"]


async def test_old_questions_are_not_in_the_way_of_one_that_has_an_answer(world: Make) -> None:
    one = world(kind="semantic", min_similarity=0.9, ttl_seconds=60)
    for number in range(20):  # each the nearest to what is asked in the end
        await one.ask("a" * number + " word aaa", control="no-cache")
    one.now += 50
    await one.ask("the word aaaaaa", control="no-cache")
    one.now += 10
    assert await one.ask("a word aaa") == "hit similar: the word aaaaaa"
    one.now += 50
    before = len(one.encoder.encoded)
    assert await one.ask("a word aaa", control="no-store") == "miss"
    assert len(one.encoder.encoded) == before, "nothing is left that could be like it"


async def test_a_failing_encoder_is_a_miss(world: Make) -> None:
    one = world(kind="semantic")
    await one.ask("the word aaa")

    def fail(texts: object) -> None:
        raise RuntimeError("no more")

    one.encoder.encode = fail  # type: ignore[assignment, method-assign]
    assert await one.ask("the word aaaa") == "miss"
    assert await one.ask("the word aaaa") == "hit exact: the word aaaa"


# --- forms ----------------------------------------------------------------------------------------


async def keep_stream(one: World, **fields: Any) -> None:
    place = await one.look(stream=True, **fields)
    assert isinstance(place, Place)
    reader = StreamReader("small", hide_usage=True)
    reader.keep(place.most_bytes)
    for event in sse.split(STREAM):
        reader.feed(event)
    one.record.model, one.record.usage = "small", Usage(3, 2)
    place.keep_stream(reader, one.record)


async def test_a_stream_is_replayed(world: Make) -> None:
    one = world()
    await keep_stream(one)
    hit = await one.look(stream=True)
    assert isinstance(hit, Hit)
    told = b"".join([block async for block in hit.events()])
    assert told.count(b'"model":"small"') == 2
    assert told.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in told
    hit = await one.look(stream=True, stream_options={"include_usage": True})
    assert isinstance(hit, Hit)
    assert b'"prompt_tokens":3' in hit.body
    assert (await one.ask()) == "hit exact: Hi"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_is_read_once_for_each_form_that_it_is_given_in(
    world: Make, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    one = world()
    await keep_stream(one)
    alone = one.cache.memory.bytes
    first = await one.look(stream=stream)
    assert isinstance(first, Hit)
    assert one.cache.memory.bytes == alone + len(first.body), "it takes room"
    for name in ("whole_of", "without_usage"):
        monkeypatch.setattr(replay, name, None)
    again = await one.look(stream=stream)
    assert isinstance(again, Hit)
    assert again.body == first.body
    one.cache.memory.drop(next(iter(one.cache.memory._entries)))
    assert one.cache.memory.bytes == 0


async def test_a_whole_answer_is_streamed(world: Make) -> None:
    one = world()
    await one.ask()
    hit = await one.look(stream=True)
    assert isinstance(hit, Hit)
    assert b'"content":"Hello"' in hit.body
    assert b"usage" not in hit.body


async def test_a_stream_without_its_end_is_not_kept(world: Make) -> None:
    one = world()
    place = await one.look(stream=True)
    assert isinstance(place, Place)
    one.record.model = "small"
    for text in (STREAM.replace(b"data: [DONE]\n\n", b""), STREAM + b"x" * 10**6):
        reader = StreamReader("small", hide_usage=True)
        reader.keep(place.most_bytes)
        reader.feed(text)
        place.keep_stream(reader, one.record)
    assert await one.ask() == "miss"


async def test_what_has_no_other_form_is_asked_again(world: Make) -> None:
    one = world()
    place = await one.look()
    assert isinstance(place, Place)
    one.record.model = "small"
    place.keep("whole", ANSWER.replace(b'"content"', b'"audio":{},"content"'), one.record)
    assert isinstance(await one.look(), Hit)
    assert isinstance(await one.look(stream=True), Place)
