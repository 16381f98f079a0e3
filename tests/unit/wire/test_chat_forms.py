"""An answer says the same in its other form, or has none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.wire import sse
from app.wire.chat_forms import stream_of, whole_of, without_usage
from app.wire.openai_chat import StreamReader

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def answer(*messages: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "created": 5,
        "model": "small",
        "system_fingerprint": "fp",
        "object": "chat.completion",
        "choices": [
            {
                "index": i,
                "message": {"role": "assistant", **message},
                "logprobs": None,
                "finish_reason": "stop",
                **choice,
            }
            for i, message in enumerate(messages)
        ],
        "usage": USAGE,
    }


LOGPROBS = {"content": [{"token": "a", "logprob": -0.1}], "refusal": None}


@pytest.mark.parametrize(
    "whole",
    [
        answer({"content": "Grüße\n\ndata: [DONE]\n\n"}),
        answer({"content": None, "tool_calls": [CALL, OTHER]}, finish_reason="tool_calls"),
        answer({"content": "a"}, logprobs=LOGPROBS),
        answer({"content": "one"}, {"content": "two"}),
        answer({"content": "", "reasoning_content": "hm"}),
        answer({"content": "x"}, content_filter_results={"hate": {"filtered": False}}),
    ],
)
def test_there_and_back(whole: dict[str, Any]) -> None:
    events = stream_of(orjson.dumps(whole))
    assert events is not None
    assert events.endswith(b"data: [DONE]\n\n")
    back = whole_of(events)
    assert back is not None
    assert orjson.loads(back) == whole


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "audio": {"id": "x"}},
        {"content": "a", "annotations": [{"type": "url_citation"}]},
        {"content": None, "tool_calls": [{**CALL, "custom": {}}]},
    ],
)
def test_what_has_no_other_form(message: dict[str, Any]) -> None:
    assert stream_of(orjson.dumps(answer(message))) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": 3}', b'{"choices": [{}]}'])
def test_what_is_no_answer(body: bytes) -> None:
    assert stream_of(body) is None


def stream(*deltas: dict[str, Any], **more: Any) -> bytes:
    chunks = [
        {"id": "c", "object": "chat.completion.chunk", "model": "m", **more,
         "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]  # fmt: skip
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    return b"".join(map(sse.event, [*map(orjson.dumps, chunks), sse.DONE]))


def test_pieces_are_put_together() -> None:
    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"index": index, "function": {"arguments": arguments, **more}}

    events = stream(
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {"tool_calls": [{**call(0, "", name="f"), "id": "c1", "type": "function"}]},
        {"tool_calls": [call(0, '{"a"')]},
        {"tool_calls": [call(0, ": 1}")]},
        {"tool_calls": [{**call(1, "{}", name="g"), "id": "c2", "type": "function"}]},
        {},
        obfuscation="xyz",
        usage=None,
    )
    body = whole_of(b": waiting\n\n" + events)
    assert body is not None
    whole = orjson.loads(body)
    message = whole["choices"][0]["message"]
    assert (message["content"], message["tool_calls"]) == ("Hello", [CALL, OTHER])
    assert (whole["object"], whole["id"]) == ("chat.completion", "c")
    assert not {"obfuscation", "usage"} & whole.keys()


@pytest.mark.parametrize(
    "events",
    [
        b"data: [DONE]\n\n",
        b'data: {"error": {"message": "broken"}}\n\n',
        b"data: {not json\n\n",
        stream({"content": "a", "audio": {"data": "..."}}),
        stream({"tool_calls": [{"index": 2, "function": {"arguments": ""}}]}),
    ],
)
def test_streams_without_another_form(events: bytes) -> None:
    assert whole_of(events) is None


WORD = b'{"model":"m","choices":[{"index":0,"delta":{"content":"Say \\"usage\\"."}}]'
ALONE = b'{"model":"m","choices":[],"usage":{"prompt_tokens":3}}'


@pytest.mark.parametrize(
    "events",
    [
        [WORD + b"}", ALONE, b"[DONE]"],
        [WORD + b',"usage":null}', WORD + b',"usage":null}', ALONE, b"[DONE]"],
        [WORD + b',"usage":{"prompt_tokens":1}}', WORD + b',"usage":{"prompt_tokens":2}}'],
        [ALONE, WORD + b"}", ALONE, ALONE, b"[DONE]"],
        [WORD + b"}", b"[DONE]"],
    ],
)
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_stream_without_its_usage_is_as_it_would_have_been(
    events: list[bytes], end: bytes
) -> None:
    stream = b"".join(b"data: " + data + end for data in events)
    assert without_usage(stream) == StreamReader("m", hide_usage=True).feed(stream)


def test_a_long_stream_is_not_read_event_by_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving it again would hold up all others for as long as that takes."""
    stream = b"".join(b"data: " + WORD + b',"usage":null}\n\n' for _ in range(1_000))
    stream += b"data: " + ALONE + b"\n\ndata: [DONE]\n\n"
    read: list[bytes] = []
    data_of = sse.data_of
    monkeypatch.setattr(sse, "data_of", lambda event: read.append(event) or data_of(event))
    assert without_usage(stream).count(b"\n\n") == 1_001
    assert len(read) == 1
