"""Values made from a schema are valid by the standard's own validator."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulated.instance import instance_of

SCALARS = st.one_of(
    st.just({"type": "string"}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 3}, st.integers(0, 40)),
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-1000, 1000)),
    st.builds(lambda high: {"type": "integer", "maximum": high}, st.integers(-1000, 1000)),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.integers(-99, 99)),
    st.builds(lambda high: {"type": "number", "exclusiveMaximum": high}, st.integers(-99, 99)),
    st.builds(
        lambda low, step: {"type": "integer", "minimum": low, "multipleOf": step},
        st.integers(-99, 99),
        st.integers(1, 9),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers(), min_size=1)),
    st.builds(lambda value: {"const": value}, st.text()),
    st.builds(lambda kinds: {"type": kinds}, st.just(["null", "integer"])),
)


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(st.text(max_size=5), inner, max_size=3).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )
    arrays = st.builds(
        lambda item, least: {"type": "array", "items": item, "minItems": least},
        inner,
        st.integers(0, 3),
    )
    either = st.builds(lambda item: {"anyOf": [{"type": "null"}, item]}, inner)
    return st.one_of(objects, arrays, either)


@given(st.recursive(SCALARS, _nested, max_leaves=12))
def test_every_made_value_is_valid(schema: dict[str, Any]) -> None:
    jsonschema.validate(instance_of(schema), schema)


def test_references_are_followed_and_loops_end() -> None:
    schema = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "next", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    jsonschema.validate(instance_of(schema), schema)


def test_all_of_is_merged() -> None:
    schema = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
    }
    made = instance_of(schema)
    jsonschema.validate(made, schema)
    assert set(made) == {"a", "b"}


@pytest.mark.parametrize("name", ["date-time", "date", "email", "uuid", "ipv4", "ipv6"])
def test_formats(name: str) -> None:
    schema = {"type": "string", "format": name}
    checker = jsonschema.FormatChecker()
    jsonschema.validate(instance_of(schema), schema, format_checker=checker)


@pytest.mark.parametrize("schema", [None, True, {}, {"type": "imaginary"}, {"$ref": "#/none"}])
def test_a_schema_that_says_nothing_still_gives_a_value(schema: Any) -> None:
    instance_of(schema)
