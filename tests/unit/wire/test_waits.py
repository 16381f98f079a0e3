"""For how long upstreams ask to be left alone."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.waits import seconds_until, wait_seconds

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20), ("0.5", 0.5), (" 7 ", 7),
        ("1s", 1), ("20ms", 0.02), ("6m0s", 360), ("1h2m3.5s", 3723.5), ("2d", 172_800),
        ("1700000030", 30), ("1700000030000", 30), ("1600000000", 0),
        (formatdate(NOW + 90, usegmt=True), 90), (formatdate(NOW - 90, usegmt=True), 0),
        ("2023-11-14T22:13:50Z", 30), ("2023-11-14T23:13:50+01:00", 30),
        ("", None), ("soon", None), ("-5", None), ("5x", None), ("nan", None), ("1e9", None),
        ("9" * 400, None), ("2023-13-45T00:00:00Z", None),
    ],
)  # fmt: skip
def test_every_form_that_providers_use(text: str, seconds: float | None) -> None:
    found = seconds_until(text, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=60))
def test_nonsense_is_no_moment_and_no_error(text: str) -> None:
    found = seconds_until(text, NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, b"", 7),
        ({"retry-after-ms": "250", "retry-after": "1"}, b"", 0.25),
        ({"retry-after": "later", "x-ratelimit-reset-requests": "3s"}, b"", 3),
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            b"",
            360,
        ),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, b"", 1),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
                "anthropic-ratelimit-requests-remaining": "40",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
            },
            b"",
            30,
        ),
        ({"x-ratelimit-reset": "1700000010000"}, b"", 10),
        (
            {},
            b'{"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34.5s"}]}}',
            34.5,
        ),
        ({}, b"{}", None),
    ],
)
def test_what_an_answer_says(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    found = wait_seconds(headers, body, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry-after-ms": "9" * 400}, b""),
        ({"retry-after": "9" * 400}, b""),
        ({"retry-after": f"{'9' * 400}h"}, b""),
        ({}, b'{"retryDelay": "' + b"9" * 400 + b's"}'),
    ],
)
def test_what_is_longer_than_a_number_can_say_is_not_said(
    headers: dict[str, str], body: bytes
) -> None:
    assert wait_seconds(headers, body, NOW) is None
