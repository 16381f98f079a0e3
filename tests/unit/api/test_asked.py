"""Request headers that ask for less time and fewer tries."""

from __future__ import annotations

import pytest

from app.api.asked import asked
from app.errors import InvalidField
from app.exchange.terms import NOTHING_ASKED, Asked


def scope(**headers: str) -> dict[str, object]:
    named = {f"x-pointsman-{name}".replace("_", "-"): text for name, text in headers.items()}
    return {"headers": [(name.encode(), text.encode()) for name, text in named.items()]}


def test_who_asks_for_nothing_costs_nothing() -> None:
    assert asked({"headers": [(b"accept", b"*/*")]}) is NOTHING_ASKED
    assert asked(scope(debug="true")) is NOTHING_ASKED


def test_what_is_asked_for() -> None:
    wishes = scope(timeout_seconds=" 1.5 ", first_token_timeout_seconds="2e-1", retries="0")
    assert asked(wishes) == Asked(1.5, 0.2, 0)


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "86401", "1,5", "1s"])
@pytest.mark.parametrize("name", ["timeout_seconds", "first_token_timeout_seconds"])
def test_no_time_is_told_with_its_header(name: str, text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        asked(scope(**{name: text}))
    assert caught.value.param == f"x-pointsman-{name}".replace("_", "-")


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "21", "0000000000021", "9" * 30, "0" * 5_000, "\u00b2"]
)
def test_no_count_is_told_with_its_header(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        asked(scope(retries=text))
    assert caught.value.param == "x-pointsman-retries"
