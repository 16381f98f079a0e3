"""A spliced document is the old one but for the one value."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire import splice
from app.wire.splice import add_value, set_string, set_value

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["model", "messages", "x", '"model":"auto"']), children, max_size=4
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "a", "model "]), JSON), st.booleans())
def test_only_the_top_level_model_changes(rest: dict[str, Any], indented: bool) -> None:
    document = {**rest, "model": "auto", "last": {"model": "auto"}}
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indented else 0)
    changed = set_string(body, "model", "auto", 'vendor/"new"')
    assert orjson.loads(changed) == {**document, "model": 'vendor/"new"'}
    # Byte for byte the same around the one value.
    assert len(changed) - len(body) == len(orjson.dumps('vendor/"new"')) - len(b'"auto"')


def test_numbers_and_escapes_keep_their_form() -> None:
    body = b'{"temperature":1.0e0,"seed":18446744073709551617,"model":"auto","t":"\\u00e9"}'
    assert set_string(body, "model", "auto", "m") == body.replace(b'"auto"', b'"m"')


@pytest.mark.parametrize(
    "body",
    [b'{"mod\\u0065l":"auto","messages":[]}', b'{"model":"\\u0061uto","x":{"model":"auto"}}'],
)
def test_escaped_spellings_are_found(body: bytes) -> None:
    assert orjson.loads(set_string(body, "model", "auto", "m"))["model"] == "m"


@given(st.dictionaries(st.sampled_from(["a", "b", "options"]), JSON), JSON, st.booleans())
def test_a_value_is_set_or_added(document: dict[str, Any], value: Any, indented: bool) -> None:
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indented else 0)
    change = set_value if "options" in document else add_value
    changed = change(body, "options", orjson.dumps(value))
    assert orjson.loads(changed) == {**document, "options": value}


def test_a_large_body_is_not_walked_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes on the event loop: only the one value may be looked at token by token."""
    walked = []

    class Counting:
        def finditer(self, body: bytes, start: int) -> Any:
            for token in splice.re.finditer(rb'"[^"]*"|[{}\[\],]', body[start:]):
                walked.append(token)
                yield token

    monkeypatch.setattr(splice, "_TOKEN", Counting())
    messages = [{"role": "user", "content": "x", "tool": {"model": 1}}] * 10_000
    body = orjson.dumps({"messages": messages, "model": "auto", "stream_options": {"a": 1}})
    splice.set_value(body, "stream_options", b"{}")
    splice.set_string(body, "model", "auto", "m")
    assert len(walked) < 10


def test_a_key_written_twice_is_set_everywhere() -> None:
    assert set_value(b'{"a": 1 , "a":[2]}', "a", b"3") == b'{"a": 3 , "a":3}'
