"""Which answers are worth keeping, and how they are written for others."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery.cache.control import CacheControl, cache_control
from app.delivery.cache.entry import Entry, is_worth_keeping, read, written
from app.errors import InvalidField
from app.exchange.usage import Usage


@pytest.mark.parametrize(
    ("body", "payload", "kept"),
    [
        (b'{"finish_reason":"stop"}', {}, True),
        (b'{"finish_reason": "tool_calls"}', {}, True),
        (b'{"finish_reason":"length"}', {}, False),
        (b'{"finish_reason":"length"}', {"max_tokens": 1}, True),
        (b'{"finish_reason":"length"}', {"max_completion_tokens": 1}, True),
        (b'{"finish_reason":"content_filter"}', {"max_tokens": 1}, False),
        (b'{"finish_reason":"stop"},{"finish_reason":"content_filter"}', {}, False),
        (b'{"finish_reason":null}', {}, False),
        (b'{"refusal":null,"finish_reason":"stop"}', {}, True),
        (b'{"refusal": "I will not.","finish_reason":"stop"}', {}, False),
        (rb'{"content":"\"refusal\":\"No\"","finish_reason":"stop"}', {}, True),
        (b"{}", {}, False),
    ],
)
def test_worth_keeping(body: bytes, payload: dict[str, Any], kept: bool) -> None:
    assert is_worth_keeping(body, payload) is kept


@pytest.mark.parametrize("usage", [None, Usage(3, 4, cached_tokens=2, service_tier="flex")])
def test_written_and_read(usage: Usage | None) -> None:
    entry = Entry("stream", b"data: 1\n\ndata: 2\n\n", "small", usage, 12.5)
    assert read(written(entry)) == entry


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[1]\nx", b'{"version": 99}\nx', b"\xff\n"])
def test_what_others_have_written(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    ("header", "control"),
    [
        (None, CacheControl()),
        ("no-cache", CacheControl(read=False)),
        ("No-Store, no-cache", CacheControl(read=False, write=False)),
        ("max-age=60", CacheControl(max_age=60)),
        ('max-age="60", must-understand', CacheControl(max_age=60)),
        ("max-age=0", CacheControl(read=False, max_age=0)),
        ("only-if-cached", CacheControl(only=True)),
        ("private,,", CacheControl()),
    ],
)
def test_cache_control(header: str | None, control: CacheControl) -> None:
    assert cache_control(header) == control


@pytest.mark.parametrize("header", ["max-age", "max-age=-1", "max-age=1.5", "max-age=\u00b2"])
def test_a_wrong_age_is_named(header: str) -> None:
    with pytest.raises(InvalidField) as caught:
        cache_control(header)
    assert caught.value.param == "cache-control"
