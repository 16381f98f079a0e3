"""A spliced document is the old one but for the one value."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.splice import set_string, set_value

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


@given(st.dictionaries(st.sampled_from(["a", "b", "stream_options"]), JSON))
def test_a_value_is_set_or_added(document: dict[str, Any]) -> None:
    body = orjson.dumps(document)
    changed = orjson.loads(set_value(body, "stream_options", b'{"include_usage":true}'))
    assert changed == {**document, "stream_options": {"include_usage": True}}


def test_a_key_written_twice_is_set_everywhere() -> None:
    assert set_value(b'{"a": 1 , "a":[2]}', "a", b"3") == b'{"a": 3 , "a":3}'
