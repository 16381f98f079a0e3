"""Reading requests strictly where it matters, and replies with suspicion."""

from typing import Any

import orjson
import pytest

from app.errors import InvalidField, InvalidJSON, MalformedReply
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.wire import openai_chat
from app.wire.openai_chat import StreamReader

MESSAGES = [{"role": "user", "content": "hi"}]


def parse(body: bytes | dict[str, Any]) -> Request:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return openai_chat.parse(raw, request_id="r", started=0.0, received=0.0, max_images=2)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"a":NaN}', b"[" * 100_000]
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        parse(body)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": 3}}, "response_format.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}] * 3}]},
            "messages",
        ),
    ],
)
def test_the_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse({"model": "auto", "messages": MESSAGES, **change})
    assert caught.value.param == param
    assert param.split("[")[0] in caught.value.message


def test_null_and_unknown_fields_pass() -> None:
    request = parse(
        {"model": "auto", "messages": MESSAGES, "temperature": None, "n": None, "novel": {"x": 1}}
    )
    assert request.payload["novel"] == {"x": 1}
    assert not request.stream


def test_the_attempt_differs_in_the_model_only() -> None:
    body = b'{ "messages":[{"role":"user","content":"hi"}],"model":"auto" ,"x":1.50}'
    assert openai_chat.body_for(parse(body), "up/1") == body.replace(b'"auto"', b'"up/1"')


def test_usage_is_asked_for_on_streams() -> None:
    request = parse({"model": "a", "messages": MESSAGES, "stream": True})
    assert orjson.loads(openai_chat.body_for(request, "a")) == {
        **request.payload,
        "stream_options": {"include_usage": True},
    }
    kept = parse({**request.payload, "stream_options": {"include_obfuscation": False}})
    assert orjson.loads(openai_chat.body_for(kept, "a"))["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    own = parse({**request.payload, "stream_options": {"include_usage": True}})
    assert own.include_usage
    assert openai_chat.body_for(own, "a") == own.body


def test_a_reply_names_our_model() -> None:
    usage = b'{"prompt_tokens":1,"total_tokens":1}'
    body = b'{"id":"1","choices":[],"model":"up-2024","usage":%s, "y":1.0}' % usage
    changed, read, fault = openai_chat.read_reply(body, "ours")
    assert changed == body.replace(b"up-2024", b"ours")
    assert (read, fault) == (Usage(1, 0), None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"choices":3}', b'{"error":{}}'])
def test_what_is_not_a_completion_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReply):
        openai_chat.read_reply(body, "ours")


def chunk(**fields: Any) -> bytes:
    document = {"id": "c", "model": "theirs", "choices": [{"delta": {"content": "a"}}], **fields}
    return b"data: " + orjson.dumps(document) + b"\n\n"


def test_a_stream_hides_the_usage_it_asked_for() -> None:
    reader = StreamReader("ours", hide_usage=True)
    assert reader.open(chunk())
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    seen = reader.feed(chunk(usage=None) + chunk(choices=[], usage=usage) + b"data: [DONE]\n\n")
    assert seen == chunk().replace(b"theirs", b"ours") + b"data: [DONE]\n\n"
    assert reader.usage == Usage(3, 2)
    assert reader.done


def test_a_stream_shows_usage_to_who_asked_or_where_there_is_text() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    asked = StreamReader("theirs", hide_usage=False)
    asked.open(chunk())
    assert asked.feed(chunk(choices=[], usage=usage)) == chunk(choices=[], usage=usage)
    # Some providers put the usage on the last chunk that has text; it must not be lost.
    hidden = StreamReader("theirs", hide_usage=True)
    hidden.open(chunk())
    assert hidden.feed(chunk(usage=usage)) == chunk(usage=usage)
    assert hidden.usage == Usage(3, 2)


def test_a_stream_is_served_in_the_tier_that_it_names() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    reader = StreamReader("ours", hide_usage=True)
    reader.open(chunk(service_tier="flex"))
    reader.feed(chunk(service_tier="flex") + chunk(choices=[], usage=usage))
    assert reader.usage == Usage(3, 2, service_tier="flex")
    reader.feed(chunk(choices=[], usage=usage, service_tier="default"))
    assert reader.usage == Usage(3, 2, service_tier="default")


def test_the_last_report_of_a_stream_counts_even_if_it_is_senseless() -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    reader.feed(chunk(usage={"prompt_tokens": 3, "completion_tokens": 1}))
    assert reader.usage == Usage(3, 1)
    assert (
        reader.feed(chunk(choices=[], usage={"prompt_tokens": -3, "completion_tokens": 1})) == b""
    )
    assert reader.usage is None
    assert reader.usage_fault == "`prompt_tokens` is not a count of tokens"


def test_the_text_of_a_stream_is_measured() -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"content": 'a "b"'},
        {"reasoning_content": "think"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x'}}]},
    ]
    for delta in deltas:
        reader.feed(chunk(choices=[{"index": 0, "delta": delta}]))
    assert reader.text_bytes == len('a \\"b\\"') + len("think") + len('{\\"x')


def test_text_that_speaks_of_usage_is_only_text() -> None:
    reader = StreamReader("ours", hide_usage=True)
    reader.open(chunk())
    said = chunk(choices=[{"delta": {"content": '"usage":{"prompt_tokens":1} [DONE]'}}])
    assert reader.feed(said) == said.replace(b'"theirs"', b'"ours"')
    assert reader.usage is None
    assert not reader.done


@pytest.mark.parametrize(
    "first", [b"data: [DONE]\n\n", b"data: {\n\n", b'data: {"error":{"message":"x"}}\n\n']
)
def test_a_stream_must_begin_with_a_chunk(first: bytes) -> None:
    with pytest.raises(MalformedReply):
        StreamReader("m", hide_usage=True).open(first)


def test_comments_come_before_the_first_chunk() -> None:
    reader = StreamReader("m", hide_usage=True)
    assert not reader.open(b": waiting\n\n")
    assert reader.open(b": waiting\n\n" + chunk())


def test_usage_is_not_asked_of_who_refuses_the_field() -> None:
    request = parse({"model": "a", "messages": MESSAGES, "stream": True})
    assert openai_chat.body_for(request, "a", ask_usage=False) == request.body


def test_the_model_is_renamed_from_where_it_is_first_named() -> None:
    reader = StreamReader("ours", hide_usage=True)
    blocks = [chunk(model=""), chunk(model="gpt-2024") + chunk(model="gpt-2024"), chunk()]
    assert reader.open(blocks[0])
    seen = [reader.feed(block) for block in blocks[:2]]
    assert seen == [chunk(model="ours"), chunk(model="ours") * 2]


def test_nothing_is_passed_on_after_the_end() -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    assert reader.feed(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    assert reader.feed(chunk()) == b""


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (b'data: {"error":{"message":"x"}}\n\n', True),
        (b'data: {"error": {"message": "x"}}\n\n', True),
        (chunk(error=None), False),
        (chunk(choices=[{"delta": {"content": '{"error":1}'}}]), False),
    ],
)
def test_an_error_inside_the_stream_is_seen(event: bytes, failed: bool) -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    reader.feed(event)
    assert reader.failed is failed


@pytest.mark.parametrize(
    "torn", [b'data: {"id": "c", "choices": [{"ind\n\n', b"data: nonsense\n\n", b'data: "a\n\n']
)
def test_an_event_that_is_not_whole_ends_the_stream(torn: bytes) -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    with pytest.raises(MalformedReply):
        reader.feed(chunk() + torn)


@pytest.mark.parametrize(
    "event",
    [
        b": a comment\n\n",
        b"event: ping\n\n",
        b"data:\n\n",
        b"data: [DONE]\n\n",
        b'data: {"choices":[]}\r\n\r\n',
        b'data: {"choices":[]} \n\n',
        b'data: {"choices":\ndata: []}\n\n',
    ],
)
def test_what_is_no_json_object_and_still_sound_passes(event: bytes) -> None:
    reader = StreamReader("theirs", hide_usage=True)
    reader.open(chunk())
    assert reader.feed(chunk() + event) == chunk() + event


def test_what_two_want_kept_is_kept_for_the_one_that_wants_more() -> None:
    """The cache keeps less than what a broken stream can be continued with, or more."""
    chunk = b'data: {"choices":[]}\n\n'
    for first, second in ((100, 1), (1, 100)):
        reader = StreamReader("m", hide_usage=True)
        reader.keep(first)
        reader.keep(second)
        reader.feed(chunk)
        assert reader.kept == chunk
