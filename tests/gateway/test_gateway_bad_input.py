"""Whatever is sent to the chat door: a clear refusal in the envelope, never a 500, never a hang."""

import re
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve, body

ANY_EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refused(answer: httpx2.Response, status: int | None = None) -> dict[str, Any]:
    """The error of an answer that must be a 4xx in the envelope."""
    assert 400 <= answer.status_code < 500, answer.text
    assert status in (None, answer.status_code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-pointsman-request-id"]
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    return error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"auto"',
        b"nonsense",
        b"\xff\xfe\x00",
        b'{"model": "auto", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "auto", "messages": [], }',
        b'{"model": NaN}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "auto"} {"model": "auto"}',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_not_a_json_object(standard: Gateway, content: bytes) -> None:
    error = refused(standard.chat(content=content), 400)
    assert error["code"] in ("caller_invalid_json", "caller_invalid_field")


@pytest.mark.parametrize("depth", [100, 250, 300, 900, 1100, 50_000])
@pytest.mark.parametrize(
    "field", ["mine", "tools", "response_format", "metadata", "tool_calls", "stream_options"]
)
def test_deep_nesting(standard: Gateway, field: str, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    message = b'{"role":"user","content":"x"}'
    match field:
        case "tools":
            extra = b'"tools":[{"type":"function","function":{"name":"f","x":%s}}]' % nested
        case "response_format":
            extra = b'"response_format":{"type":"json_object","x":%s}' % nested
        case "metadata":
            extra = b'"metadata":{"x":%s}' % nested
        case "stream_options":
            extra = b'"stream":true,"stream_options":{"x":%s}' % nested
        case "tool_calls":
            message = b'{"role":"assistant","tool_calls":%s}' % nested
            extra = b'"x":1'
        case _:
            extra = b'"mine":%s' % nested
    answer = standard.chat(content=b'{"model":"auto","messages":[%s],%s}' % (message, extra))
    if answer.status_code != 200:
        refused(answer, 400)


def test_empty_messages_and_wrong_ones(standard: Gateway) -> None:
    for messages in (None, [], {}, "x", [None], [[]], [{}], [{"role": 1}], [{"role": ""}]):
        error = refused(standard.chat(messages=messages), 400)
        assert error["param"].startswith("messages")
        assert error["code"] == "caller_invalid_field"


KEYS = re.findall(
    r"\w+",
    "type role content text function name parameters json_schema schema include_usage tool_calls "
    "image_url properties items",
)
KEYS = re.findall(
    r"\w+",
    "type role content text function name parameters json_schema schema include_usage tool_calls "
    "image_url properties items",
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["auto", "small", "none", "function", "json_schema", "image_url", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    re.findall(
        r"\w+",
        "model messages stream stream_options tools tool_choice functions function_call "
        "parallel_tool_calls response_format temperature top_p n stop seed max_tokens "
        "max_completion_tokens logprobs top_logprobs logit_bias user metadata modalities audio "
        "service_tier reasoning_effort store frequency_penalty presence_penalty unknown",
    )
)


def well_behaved(answer: httpx2.Response) -> None:
    if answer.status_code != 200:
        refused(answer)


@ANY_EXAMPLES
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_wrong_types_in_every_field(standard: Gateway, fields: dict[str, Any]) -> None:
    request = {"model": "auto", "messages": [{"role": "user", "content": "x"}], **fields}
    well_behaved(standard.chat(content=encoded(request)))


@ANY_EXAMPLES
@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON)))
def test_any_messages(standard: Gateway, messages: list[Any]) -> None:
    well_behaved(standard.chat(content=encoded({"model": "auto", "messages": messages})))


@ANY_EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes(standard: Gateway, content: bytes) -> None:
    refused(standard.chat(content=content), 400)


VALID = orjson.dumps(body(stream=True, tools=[], n=1, seed=2, user="é", x=[1.5]))


@ANY_EXAMPLES
@given(st.integers(0, len(VALID) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_sound_body_with_a_few_bytes_changed(
    standard: Gateway, place: int, new: bytes, removed: int
) -> None:
    well_behaved(standard.chat(content=VALID[:place] + new + VALID[place + removed :]))


@ANY_EXAMPLES
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300))
def test_any_unknown_model(standard: Gateway, model: str) -> None:
    name = f"~{model}"
    error = refused(standard.chat(model=name), 404)
    assert error["code"] == "caller_unknown_model"


@ANY_EXAMPLES
@given(st.dictionaries(FIELDS, JSON, max_size=3))
def test_the_decision_door_too(standard: Gateway, fields: dict[str, Any]) -> None:
    request = {"model": "auto", "messages": [{"role": "user", "content": "x"}], **fields}
    well_behaved(standard.http.post("/v1/decision", content=encoded(request)))


def encoded(value: Any) -> bytes:
    """JSON with integers of any size, which orjson does not write."""
    import json

    return json.dumps(value).encode()


def test_a_body_of_30_megabytes(standard: Gateway, simulated: Control) -> None:
    filler = "x" * (30 * 1024 * 1024)
    error = refused(standard.chat(messages=[{"role": "user", "content": filler}]), 413)
    assert error["code"] == "caller_body_too_large"
    assert "server.max_body_bytes" in error["message"]
    assert simulated.log() == []


def test_a_large_body_below_the_limit_passes(standard: Gateway, simulated: Control) -> None:
    text = "x" * (20 * 1024 * 1024)
    assert standard.chat(messages=[{"role": "user", "content": text}]).status_code == 200
    assert simulated.log()[-1]["model"] == "up-medium"


def test_the_limits_are_configurable(gateway: Serve) -> None:
    text = """
server: {{max_body_bytes: 2000, max_images: 2}}
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models: {{one: {{upstream: sim}}}}
routes: {{auto: {{candidates: [one], router: null}}}}
"""
    one = gateway(text)
    assert refused(one.chat(user="x" * 2000), 413)["code"] == "caller_body_too_large"
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert one.chat(messages=[{"role": "user", "content": [image] * 2}]).status_code == 200
    error = refused(one.chat(messages=[{"role": "user", "content": [image] * 3}]), 400)
    assert error["param"] == "messages"
    assert "3 images" in error["message"]


def test_too_many_images(standard: Gateway) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    error = refused(standard.chat(messages=[{"role": "user", "content": [image] * 101}]), 400)
    assert error["code"] == "caller_invalid_field"
