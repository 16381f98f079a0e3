"""OpenAI's chat completions as clients send them and upstreams answer them.

Only what Pointsman itself acts on is checked, and the types of the documented fields, so that a
mistake is answered with the field's name. Unknown fields pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from app.errors import InvalidField, InvalidJSON, MalformedReply
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.wire import sse
from app.wire import usage as usages
from app.wire.splice import add_value, set_string, set_value

_MAX_DEPTH = 250
"""orjson writes up to 254 levels."""

_NUMBER = (int, float)
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "audio": (dict, "an object"),
    "frequency_penalty": (_NUMBER, "a number"),
    "function_call": ((str, dict), "a string or an object"),
    "functions": (list, "an array"),
    "logit_bias": (dict, "an object"),
    "logprobs": (bool, "a boolean"),
    "max_completion_tokens": (int, "a positive integer"),
    "max_tokens": (int, "a positive integer"),
    "metadata": (dict, "an object"),
    "modalities": (list, "an array"),
    "n": (int, "a positive integer"),
    "parallel_tool_calls": (bool, "a boolean"),
    "presence_penalty": (_NUMBER, "a number"),
    "reasoning_effort": (str, "a string"),
    "response_format": (dict, "an object with a `type`"),
    "seed": (int, "an integer"),
    "service_tier": (str, "a string"),
    "stop": ((str, list), "a string or an array of strings"),
    "store": (bool, "a boolean"),
    "stream": (bool, "a boolean"),
    "stream_options": (dict, "an object"),
    "temperature": (_NUMBER, "a number"),
    "tool_choice": ((str, dict), "a string or an object"),
    "tools": (list, "an array"),
    "top_logprobs": (int, "an integer"),
    "top_p": (_NUMBER, "a number"),
    "user": (str, "a string"),
}
_POSITIVE = frozenset({"max_completion_tokens", "max_tokens", "n"})
_BOOLEAN = frozenset(name for name, (kind, _) in _TYPES.items() if kind is bool)
_OBJECTS_IN = frozenset({"tools", "functions"})
_IMAGES = frozenset({"image_url", "input_image", "image"})


# --- requests --------------------------------------------------------------------------------


def parse(
    body: bytes,
    *,
    request_id: str,
    started: float,
    received: float,
    max_images: int,
    debug: bool = False,
    session: str | None = None,
    cache_control: str | None = None,
    traceparent: str | None = None,
) -> Request:
    """Read and check a request body. Raises InvalidJSON or InvalidField, naming the field."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from None
    if not isinstance(payload, dict):
        raise InvalidJSON("The body must be a JSON object.")
    _check_depth(body, payload)
    model = payload.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidField("`model` must be a non-empty string, such as `auto`.", param="model")
    _check_types(payload)
    _check_messages(payload.get("messages"), max_images)
    options = payload.get("stream_options") or {}
    return Request(
        id=request_id,
        body=body,
        payload=payload,
        model=model,
        stream=payload.get("stream") is True,
        started=started,
        received=received,
        debug=debug,
        traceparent=traceparent,
        include_usage=options.get("include_usage") is True,
        session=session,
        cache_control=cache_control,
    )


def _check_depth(body: bytes, payload: dict[str, Any]) -> None:
    """Parts of the body are written again on the way; what can be read may be too deep for that.

    Brackets are counted first: only a body that has many can be deep.
    """
    if body.count(b"{") + body.count(b"[") <= _MAX_DEPTH:
        return
    try:
        orjson.dumps(payload)
    except orjson.JSONEncodeError:
        raise InvalidJSON(f"The body is nested more than {_MAX_DEPTH} levels deep.") from None


def _check_types(payload: Mapping[str, Any]) -> None:
    for name, value in payload.items():
        expected = _TYPES.get(name)
        if expected is None or value is None:
            continue
        kind, description = expected
        # bool is an int in Python, but `"n": true` is a mistake.
        wrong = not isinstance(value, kind) or (value.__class__ is bool and name not in _BOOLEAN)
        if wrong or (name in _POSITIVE and value < 1):
            raise InvalidField(f"`{name}` must be {description}.", param=name)
        if name in _OBJECTS_IN:
            for i, item in enumerate(value):
                if not isinstance(item, dict):
                    raise InvalidField(f"`{name}[{i}]` must be an object.", param=f"{name}[{i}]")
        elif name == "response_format" and not isinstance(value.get("type"), str):
            raise InvalidField(
                "`response_format.type` must be a string.", param="response_format.type"
            )


def _check_messages(messages: Any, max_images: int) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidField("`messages` must be a non-empty array.", param="messages")
    images = 0
    for i, message in enumerate(messages):
        place = f"messages[{i}]"
        if not isinstance(message, dict):
            raise InvalidField(f"`{place}` must be an object.", param=place)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise InvalidField(f"`{place}.role` must be a string.", param=f"{place}.role")
        content = message.get("content")
        if isinstance(content, list):
            images += _check_parts(content, f"{place}.content")
        elif content is not None and not isinstance(content, str):
            raise InvalidField(
                f"`{place}.content` must be a string, an array of parts or null.",
                param=f"{place}.content",
            )
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            raise InvalidField(
                f"`{place}.tool_calls` must be an array.", param=f"{place}.tool_calls"
            )
    if images > max_images:
        raise InvalidField(
            f"`messages` hold {images} images; at most {max_images} are accepted.",
            param="messages",
        )


def _check_parts(parts: list[Any], place: str) -> int:
    """Check the parts of a message and count its images."""
    images = 0
    for i, part in enumerate(parts):
        if not isinstance(part, dict):
            raise InvalidField(f"`{place}[{i}]` must be an object.", param=f"{place}[{i}]")
        kind = part.get("type")
        if not isinstance(kind, str):
            raise InvalidField(f"`{place}[{i}].type` must be a string.", param=f"{place}[{i}].type")
        images += kind in _IMAGES
    return images


def body_for(request: Request, upstream_id: str, *, ask_usage: bool = True) -> bytes:
    """The client's body for one attempt: the model's id at that upstream, and usage asked for."""
    body = set_string(request.body, "model", request.model, upstream_id)
    if request.stream and ask_usage and not request.include_usage:
        if "stream_options" in request.payload:
            options = {**(request.payload["stream_options"] or {}), "include_usage": True}
            return set_value(body, "stream_options", orjson.dumps(options))
        body = add_value(body, "stream_options", b'{"include_usage":true}')
    return body


# --- replies ---------------------------------------------------------------------------------


def read_reply(body: bytes, model_name: str) -> tuple[bytes, Usage | None, str | None]:
    """Check a complete answer; give it back naming our model, with its usage, or with what is wrong
    with the usage.

    Raises MalformedReply if it is not a chat completion.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedReply("The upstream's answer is not valid JSON.") from None
    if not isinstance(payload, dict) or not isinstance(payload.get("choices"), list):
        raise MalformedReply("The upstream's answer has no `choices`.")
    theirs = payload.get("model")
    if isinstance(theirs, str) and theirs != model_name:
        body = set_string(body, "model", theirs, model_name)
    return body, *_usage_of(payload)


def _usage_of(
    payload: Mapping[str, Any], tier: str | None = None
) -> tuple[Usage | None, str | None]:
    try:
        return usages.openai_chat(payload.get("usage"), payload.get("service_tier") or tier), None
    except usages.SenselessUsage as error:
        return None, str(error)


_NO_USAGE = b',"usage":null'
"""What OpenAI writes on every chunk but the last when usage was asked for. It can't be found inside
a string, where the quotes would be escaped; the same holds of the next three."""
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')
_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments|input)"\s*:\s*'
    rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
)
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_ERROR = re.compile(rb'^data: ?\{\s*"error"\s*:\s*[^n\s]', re.MULTILINE)


class StreamReader:
    """Follows a stream of chunks: renames the model, finds the usage, hides what was not asked for.

    Works on blocks of whole events by searching; only an event that carries usage is parsed.
    """

    __slots__ = (
        "_hide_usage", "_kept", "_model_name", "_pattern", "_replacement", "_room", "_tier", "done",
        "failed", "finished", "text_bytes", "usage", "usage_fault",
    )  # fmt: skip

    def __init__(self, model_name: str, *, hide_usage: bool) -> None:
        self._model_name = orjson.dumps(model_name)
        self._hide_usage = hide_usage
        self._pattern: bytes | None = None
        self._replacement = b""
        self._tier: str | None = None
        self._kept: list[bytes] | None = None
        self._room = 0
        self.usage: Usage | None = None
        self.usage_fault: str | None = None
        """What was wrong with the last usage that was reported."""
        self.text_bytes = 0
        """How much text, of answers, reasoning and arguments, has been passed on."""
        self.finished = False
        """Some choice has said why it ended."""
        self.done = False
        """The stream has said that it is over."""
        self.failed = False
        """The upstream has reported an error inside the stream."""

    def open(self, block: bytes) -> bool:
        """Look at the first blocks; True once one holds a chunk.

        Raises MalformedReply if the first data is not a chunk.
        """
        for event in sse.split(block):
            if data := sse.data_of(event):
                self._tier = _check_chunk(data)
                return True
        return False

    def keep(self, most_bytes: int) -> None:
        """Keep what is to come, as the upstream sends it, unless it is more than so much, or than
        was asked for before."""
        self._kept, self._room = [], max(most_bytes, self._room)

    @property
    def kept(self) -> bytes | None:
        """All that came; None if it was not to be kept, or was too much."""
        return None if self._kept is None else b"".join(self._kept)

    def feed(self, block: bytes) -> bytes:
        """A block of whole events, as the client should see it; nothing after the stream's end.

        Raises MalformedReply for an event that is plainly no JSON.
        """
        if self.done:
            return b""
        if block.count(b"\n\n") != block.count(b"}\n\n"):
            _check_events(block)
        if self._kept is not None:
            self._room -= len(block)
            self._kept.append(block)
            if self._room < 0:
                self._kept = None
        self.text_bytes += sum(map(len, _TEXT.findall(block)))
        if b'"usage"' in block and block.count(b'"usage"') != block.count(b'"usage":null'):
            block = self._take_usage(block)
        if self._hide_usage and _NO_USAGE in block:
            block = block.replace(_NO_USAGE, b"")
        if not self.finished and _FINISH.search(block):
            self.finished = True
        if b"[DONE]" in block and sse.DONE in map(sse.data_of, sse.split(block)):
            self.done = True
        if b'"error"' in block and _ERROR.search(block):
            self.failed = True
        return self.renamed(block)

    def renamed(self, block: bytes) -> bytes:
        """A block with our model's name."""
        if self._pattern is None:
            match = _MODEL.search(block)
            if match is None:
                return block
            pattern, theirs = match.group(), match.group(1)
            replacement = pattern.removesuffix(theirs) + self._model_name
            if theirs == b'""':  # as in Azure's first chunk; the name is still to come
                block = block.replace(pattern, replacement)
                match = _MODEL.search(block, block.rfind(replacement) + len(replacement))
                if match is None:
                    return block
                pattern = match.group()
            self._pattern, self._replacement = pattern, replacement
        return block.replace(self._pattern, self._replacement)

    def _take_usage(self, block: bytes) -> bytes:
        kept = []
        for event in sse.split(block):
            if b'"usage"' in event and self._is_usage_only(sse.data_of(event)):
                continue
            kept.append(event)
        return b"".join(kept)

    def _is_usage_only(self, data: bytes) -> bool:
        """Note the usage of an event; True if the client should not see the event."""
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(chunk, dict):
            return False
        if not chunk.get("usage"):
            return False
        usage, fault = _usage_of(chunk, self._tier)
        if usage is not None or fault is not None:
            self.usage, self.usage_fault = usage, fault
        return self._hide_usage and not chunk.get("choices")


def _check_chunk(data: bytes) -> str | None:
    """The service tier that a first chunk names."""
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise MalformedReply("The upstream's stream does not begin with a JSON chunk.") from None
    if not isinstance(chunk, dict) or chunk.get("error") or "choices" not in chunk:
        raise MalformedReply("The upstream's stream does not begin with a chunk.")
    tier = chunk.get("service_tier")
    return tier if isinstance(tier, str) else None


def _check_events(block: bytes) -> None:
    """Raises MalformedReply for data that is not whole.

    Looked into only where an event does not end as JSON does: what is torn would be a crash in the
    client's parser, where it could be an error that says what happened.
    """
    for event in sse.split(block):
        data = sse.data_of(event)
        if data and not data.endswith(b"}") and not is_whole(data):
            raise MalformedReply("The upstream's stream has an event that is not JSON.")


def before_error(block: bytes) -> bytes:
    """The events of a block before one that tells of an error."""
    events = sse.split(block)
    for place, event in enumerate(events):
        if _ERROR.search(event):
            return b"".join(events[:place])
    return block


def is_whole(data: bytes) -> bool:
    """Whether the data of an event is all there."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return data == sse.DONE
    return True


# --- errors ----------------------------------------------------------------------------------


def error_body(message: str, type_: str, param: str | None, code: str) -> bytes:
    """OpenAI's error envelope."""
    return orjson.dumps(
        {"error": {"message": message, "type": type_, "param": param, "code": code}}
    )


def read_error(body: bytes) -> Mapping[str, Any] | None:
    """The error object of a body in OpenAI's envelope; None if it is in another form."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = payload.get("error") if isinstance(payload, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None
