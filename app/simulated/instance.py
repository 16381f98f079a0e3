"""A value that satisfies a JSON Schema: arguments of a tool call, or a shaped answer.

It knows the part of the standard that structured outputs use; a keyword beyond that is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_DEEPEST = 8
"""A schema that refers to itself ends here: by null, an empty list or a property left out."""

_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "simulated@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


def instance_of(schema: Any) -> Any:
    """Make one value that the schema allows."""
    return _make(schema, schema if isinstance(schema, dict) else {}, 0)


def _make(schema: Any, root: Schema, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > 4 * _DEEPEST:
        return None
    schema = _flatten(schema, root)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            return _make(_choose(schema[word], root, depth), root, depth + 1)
    maker = _MAKERS.get(_type_of(schema, depth))
    return maker(schema, root, depth) if maker else None


def _flatten(schema: Schema, root: Schema) -> Schema:
    """Follow `$ref` and merge `allOf` into one schema."""
    for _ in range(_DEEPEST):
        if isinstance(schema.get("$ref"), str):
            target = _resolve(schema["$ref"], root)
            schema = target | {key: value for key, value in schema.items() if key != "$ref"}
        elif isinstance(schema.get("allOf"), list):
            schema = _merge(schema)
        else:
            break
    return schema


def _merge(schema: Schema) -> Schema:
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        for key, value in part.items() if isinstance(part, dict) else ():
            mine = merged.get(key)
            if key == "properties" and isinstance(mine, dict):
                merged[key] = mine | value
            elif key == "required" and isinstance(mine, list):
                merged[key] = [*mine, *value]
            else:
                merged[key] = value
    return merged


def _resolve(reference: str, root: Schema) -> Schema:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if name:
            found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _choose(options: list[Any], root: Schema, depth: int) -> Any:
    """The first option that is not null; null once the value is deep enough."""
    flat = [_flatten(option, root) for option in options if isinstance(option, dict)]
    nulls = [option for option in flat if option.get("type") == "null"]
    if nulls and depth >= _DEEPEST:
        return nulls[0]
    return next((option for option in flat if option.get("type") != "null"), options[0])


def _type_of(schema: Schema, depth: int) -> str:
    named = schema.get("type")
    if isinstance(named, list):
        if "null" in named and depth >= _DEEPEST:
            return "null"
        named = next((name for name in named if name != "null"), "null")
    if isinstance(named, str):
        return named
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    wanted = required if depth >= _DEEPEST else [*properties, *required]
    return {
        name: _make(properties.get(name, {}), root, depth + 1) for name in dict.fromkeys(wanted)
    }


def _array(schema: Schema, root: Schema, depth: int) -> list[Any]:
    first = schema.get("prefixItems")
    values = [_make(item, root, depth + 1) for item in first] if isinstance(first, list) else []
    least = schema.get("minItems", 0)
    least = least if isinstance(least, int) else 0
    wanted = min(max(least, 0 if depth >= _DEEPEST else 1), schema.get("maxItems", 1000), 1000)
    item = schema.get("items", {})
    if item is not False:
        values += [_make(item, root, depth + 1) for _ in range(wanted - len(values))]
    return values


def _string(schema: Schema, _root: Schema, _depth: int) -> str:
    text = _FORMATS.get(str(schema.get("format")), "simulated")
    least, most = schema.get("minLength", 0), schema.get("maxLength", len(text) + 1000)
    while len(text) < least <= 10_000:
        text += " simulated"
    return text[:most] if len(text) > most else text


def _number(schema: Schema, _root: Schema, _depth: int) -> float:
    low: float = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high: float = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if low <= 1 <= high and _allows(schema, 1):
        return 1
    if math.isinf(low):
        return high - 1 if not _allows(schema, high) else high
    if _allows(schema, low):
        return low
    return low + 1 if math.isinf(high) else (low + high) / 2


def _integer(schema: Schema, _root: Schema, _depth: int) -> int:
    step = schema.get("multipleOf", 1)
    number = step * math.ceil(_number(schema, {}, 0) / step)
    while not _allows(schema, number) and number < schema.get("maximum", math.inf):
        number += step
    return int(number)


def _allows(schema: Schema, number: float) -> bool:
    over = "exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"]
    under = "exclusiveMaximum" not in schema or number < schema["exclusiveMaximum"]
    return over and under


_MAKERS: dict[str, Callable[[Schema, Schema, int], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: True,
}
