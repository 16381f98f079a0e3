"""One answer in its two forms: a whole completion, and the chunks of a stream.

For replaying an answer in the form that was not recorded. Each way is taken only where nothing is
lost by it; an answer with parts that this does not know has one form.
"""

from __future__ import annotations

from typing import Any

import orjson

from app.wire import sse

_WHOLE, _CHUNK = "chat.completion", "chat.completion.chunk"
_TEXTS = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
_OF_MESSAGE = _TEXTS | {"role", "tool_calls", "function_call", "annotations"}
_OF_CALL = frozenset({"index", "id", "type", "function"})
_OF_FUNCTION = frozenset({"name", "arguments"})
_PADDING = "obfuscation"
"""Noise that OpenAI adds to chunks, so that their size tells nothing."""

Fields = dict[str, Any]


class _Unknown(Exception):
    """A part that has no other form."""


def stream_of(body: bytes) -> bytes | None:
    """The events of a whole answer, its usage in one of their own; None if they would not say the
    same."""
    try:
        answer = orjson.loads(body)
        common = {k: v for k, v in answer.items() if k not in ("choices", "usage", "object")}
        head = {"object": _CHUNK, **common}
        chunks: list[Fields] = []
        for choice in answer["choices"]:
            chunks += _chunks_of(choice)
    except (orjson.JSONDecodeError, _Unknown, KeyError, TypeError, AttributeError):
        return None
    events = [orjson.dumps({**head, "choices": [choice]}) for choice in chunks]
    if (usage := answer.get("usage")) is not None:
        events.append(orjson.dumps({**head, "choices": [], "usage": usage}))
    return b"".join(map(sse.event, [*events, sse.DONE]))


def _chunks_of(choice: Fields) -> list[Fields]:
    """A choice as two chunks: all it says, and how it ended."""
    message, index = choice["message"], choice["index"]
    if not message.keys() <= _OF_MESSAGE or message.get("annotations"):
        raise _Unknown
    delta = {key: value for key, value in message.items() if key != "annotations"}
    if calls := delta.pop("tool_calls", None):
        if not all(_is_plain_call(call) for call in calls):
            raise _Unknown
        delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
    said: Fields = {"index": index, "delta": delta, "finish_reason": None}
    if "logprobs" in choice:
        said["logprobs"] = choice["logprobs"]
    known = ("index", "message", "logprobs")
    return [
        said,
        {"index": index, "delta": {}, **{k: v for k, v in choice.items() if k not in known}},
    ]


def whole_of(events: bytes) -> bytes | None:
    """The whole answer that the events of a finished stream amount to; None if it would not say
    the same."""
    answer: Fields = {}
    choices: dict[int, Fields] = {}
    try:
        for event in sse.split(events):
            data = sse.data_of(event)
            if not data or data == sse.DONE:
                continue
            chunk = orjson.loads(data)
            for choice in chunk.pop("choices"):
                _add(choices.setdefault(choice["index"], _blank(choice["index"])), choice)
            chunk.pop(_PADDING, None)
            answer.update({key: value for key, value in chunk.items() if value is not None})
    except (orjson.JSONDecodeError, _Unknown, KeyError, TypeError, AttributeError):
        return None
    if not choices:
        return None
    usage = {"usage": answer.pop("usage")} if "usage" in answer else {}
    answer["object"] = _WHOLE
    return orjson.dumps({**answer, "choices": [choices[i] for i in sorted(choices)], **usage})


def without_usage(events: bytes) -> bytes:
    """A stream as who did not ask for its usage sees it.

    By searching: a stream has an event a word, and reading all of them takes as long as many
    requests do.
    """
    ends = b"\r\n\r\n" if b"\r\n\r\n" in events else b"\n\n"
    events = events.replace(b',"usage":null', b"")
    kept, done, place = [], 0, 0
    # Inside a string the quotes would be escaped.
    while (place := events.find(b'"usage"', place)) >= 0:
        begin = events.rfind(ends, done, place)
        begin = done if begin < 0 else begin + len(ends)
        end = events.find(ends, place)
        end = len(events) if end < 0 else end + len(ends)
        if _is_of_usage_alone(sse.data_of(events[begin:end])):
            kept.append(events[done:begin])
            done = end
        place = end
    kept.append(events[done:])
    return b"".join(kept)


def _is_of_usage_alone(data: bytes) -> bool:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and bool(chunk.get("usage")) and not chunk.get("choices")


def _blank(index: int) -> Fields:
    message = {"role": "assistant", "content": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _add(whole: Fields, choice: Fields) -> None:
    """What one chunk says of a choice."""
    for name, value in (choice.get("delta") or {}).items():
        _add_part(whole["message"], name, value)
    for name, value in choice.items():
        if value is None or name in ("index", "delta"):
            continue
        if name == "logprobs":
            whole[name] = _longer(whole[name] or {}, value)
        else:
            whole[name] = value


def _add_part(message: Fields, name: str, value: Any) -> None:
    if value is None:
        message.setdefault(name, None)
    elif name == "role":
        message[name] = value
    elif name in _TEXTS:
        message[name] = (message.get(name) or "") + value
    elif name == "function_call":
        _add_function(message.setdefault(name, {}), value)
    elif name == "tool_calls":
        calls = message.setdefault(name, [])
        for part in value:
            if not part.keys() <= _OF_CALL or part["index"] > len(calls):
                raise _Unknown
            if part["index"] == len(calls):
                calls.append({})
            _add_call(calls[part["index"]], part)
    else:
        raise _Unknown


def _add_call(call: Fields, part: Fields) -> None:
    for name in ("id", "type"):
        if part.get(name):
            call[name] = part[name]
    if (function := part.get("function")) is not None:
        _add_function(call.setdefault("function", {}), function)


def _add_function(whole: Fields, part: Fields) -> None:
    if not part.keys() <= _OF_FUNCTION:
        raise _Unknown
    for name, text in part.items():
        if text is not None:
            whole[name] = whole.get(name, "") + text


def _longer(before: Fields, more: Fields) -> Fields:
    """Log probabilities of tokens, one list behind the other."""
    return {
        name: (before.get(name) or []) + (more.get(name) or [])
        if before.get(name) or more.get(name)
        else None
        for name in {**before, **more}
    }


def _is_plain_call(call: Fields) -> bool:
    return call.keys() <= _OF_CALL - {"index"} and call["function"].keys() <= _OF_FUNCTION
