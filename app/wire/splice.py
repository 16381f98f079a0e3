"""Changing one value of a JSON text and leaving every other byte as it is.

Bodies are forwarded byte-faithful, so the model name is replaced in place rather than by writing
the whole document anew: numbers keep their form, keys their order, strings their escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
_SPACE = b" \t\r\n"
_ESCAPED_LETTER = b"\\u006"
"""Nobody escapes a letter from d to o unless to hide a key such as `model` from a search."""


def set_string(body: bytes, key: str, old: str, new: str) -> bytes:
    """Replace the top-level `key`, whose value is the string `old`, by `new`.

    `body` must be a JSON object that holds it. A key that is written with escapes cannot be
    found in the text; the document is then written anew.
    """
    if old == new:
        return body
    found = None if _ESCAPED_LETTER in body else _only_occurrence(body, key, old)
    value = orjson.dumps(new)
    if found is not None:
        return body[: found[0]] + value + body[found[1] :]
    return set_value(body, key, value)


def _only_occurrence(body: bytes, key: str, old: str) -> tuple[int, int] | None:
    """Span of the value if the key stands just once, at any depth; it is then the one.

    The pattern can't match inside a string: there the quotes would be escaped.
    """
    matches = re.finditer(rb'[{,]\s*"' + re.escape(key.encode()) + rb'"\s*:\s*', body)
    first, second = next(matches, None), next(matches, None)
    if first is None or second is not None:
        return None
    written, start = orjson.dumps(old), first.end()
    return (start, start + len(written)) if body.startswith(written, start) else None


def set_value(body: bytes, key: str, value: bytes) -> bytes:
    """Set a top-level key to a JSON value; added in front if the object lacks it."""
    spans = [span for name, span in _top_level(body) if name == key]
    if not spans:
        return _added(body, key, value)
    # With a key written twice the last one counts for most parsers; set them all.
    for start, end in reversed(spans):
        body = body[:start] + value + body[end:]
    return body


def _added(body: bytes, key: str, value: bytes) -> bytes:
    opening = body.index(b"{") + 1
    empty = body[opening:].lstrip(_SPACE).startswith(b"}")
    comma = b"" if empty else b","
    return body[:opening] + orjson.dumps(key) + b":" + value + comma + body[opening:]


def _top_level(body: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Keys of the outermost object and the spans of their values."""
    depth = 0
    key: str | None = None
    last_string = b""
    start = 0
    for token in _TOKEN.finditer(body):
        text = token.group()
        kind = text[:1]
        if kind == b'"':
            last_string = text
        elif kind in b"{[":
            depth += 1
        elif kind == b":" and depth == 1 and key is None:
            key, start = orjson.loads(last_string), token.end()
        elif kind == b"," and depth == 1 and key is not None:
            yield key, _trimmed(body, start, token.start())
            key = None
        elif kind in b"}]":
            depth -= 1
            if depth == 0 and key is not None:
                yield key, _trimmed(body, start, token.start())
                return


def _trimmed(body: bytes, start: int, end: int) -> tuple[int, int]:
    while body[start : start + 1] in (b" ", b"\t", b"\r", b"\n"):
        start += 1
    while body[end - 1 : end] in (b" ", b"\t", b"\r", b"\n"):
        end -= 1
    return start, end
