"""Changing one value of a JSON text and leaving every other byte as it is.

Bodies are forwarded byte-faithful, so the model name is replaced in place rather than by writing
the whole document anew: numbers keep their form, keys their order, strings their escapes. Bodies
may be tens of megabytes on the event loop, so the searching is done by `re` and `bytes` in C.
"""

from __future__ import annotations

import re

import orjson

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_HIDDEN = re.compile(rb"\\u00[4-7]")
"""A letter written as an escape: nobody does so unless to hide a key from a search."""


def set_string(body: bytes, key: str, old: str, new: str) -> bytes:
    """Replace the top-level `key`, whose value is the string `old`, by `new`.

    `body` must be a JSON object that holds it.
    """
    return body if old == new else set_value(body, key, orjson.dumps(new))


def set_value(body: bytes, key: str, value: bytes) -> bytes:
    """Replace the value of a top-level key that the object `body` holds.

    A key written twice is set everywhere: parsers differ in which one counts. A document that
    may hold keys in escaped letters is written anew.
    """
    if b"\\u00" in body and _HIDDEN.search(body):
        return orjson.dumps({**orjson.loads(body), key: orjson.Fragment(value)})
    for start, end in reversed(_spans(body, key)):
        body = body[:start] + value + body[end:]
    return body


def add_value(body: bytes, key: str, value: bytes) -> bytes:
    """Put a key that the object `body` lacks in front."""
    opening = body.index(b"{") + 1
    empty = body[opening:].lstrip().startswith(b"}")
    comma = b"" if empty else b","
    return body[:opening] + orjson.dumps(key) + b":" + value + comma + body[opening:]


def _spans(body: bytes, key: str) -> list[tuple[int, int]]:
    """Spans of the values that belong to the key at the top level.

    A key stands behind a brace or a comma. Inside a string neither could be: there the quote would
    be escaped.
    """
    quoted = b'"%b"' % key.encode()
    found: list[tuple[int, int]] = []
    at = body.find(quoted)
    while at >= 0:
        after = at + len(quoted)
        colon = _COLON.match(body, after)
        if colon is not None and _before(body, at) in b"{,":
            found.append((at, colon.end()))
        at = body.find(quoted, after)
    if len(found) > 1:
        found = [(at, start) for at, start in found if _depth(body, at) == 1]
    return [(start, _value_end(body, start)) for _, start in found]


def _before(body: bytes, position: int) -> bytes:
    """The last byte before a position that is no space."""
    while position and body[position - 1] in b" \t\r\n":
        position -= 1
    return body[position - 1 : position]


def _depth(body: bytes, position: int) -> int:
    before = _STRING.sub(b"", body[:position])
    opened = before.count(b"{") + before.count(b"[")
    return opened - before.count(b"}") - before.count(b"]")


def _value_end(body: bytes, start: int) -> int:
    """Where the value that begins at `start` ends."""
    depth = 0
    for token in _TOKEN.finditer(body, start):
        kind = token.group()[:1]
        if kind in b"{[":
            depth += 1
        elif kind in b"}]":
            depth -= 1
            if depth < 0:
                return start + len(body[start : token.start()].rstrip())
        elif kind == b"," and depth == 0:
            return start + len(body[start : token.start()].rstrip())
        if depth == 0 and kind != b",":
            return token.end()
    return len(body)
