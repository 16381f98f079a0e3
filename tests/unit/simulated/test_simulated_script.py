from typing import Any

import pytest

from app.simulated.behaviour import behaviour_from_json
from app.simulated.refusal import RequestRefused
from app.simulated.script import Script


def entry(text: str, model: str = "*", times: int | None = 1) -> dict[str, Any]:
    return {"model": model, "times": times, "behaviour": {"text": text}}


def texts(script: Script, *models: str) -> list[str | None]:
    taken = [script.take(model) for model in models]
    return [behaviour.text if behaviour else None for behaviour in taken]


def test_queued_behaviours_are_used_once_each_in_order() -> None:
    script = Script()
    script.add([entry("first", times=2), entry("second")])
    assert texts(script, "a", "b", "c", "d") == ["first", "first", "second", None]


def test_standing_one_serves_when_the_queue_is_empty_and_the_latest_wins() -> None:
    script = Script()
    script.add([entry("old", times=None), entry("new", times=None), entry("once")])
    assert texts(script, "a", "a", "a") == ["once", "new", "new"]


def test_own_name_goes_before_any_model() -> None:
    script = Script()
    script.add([entry("any"), entry("mine", model="a")])
    assert texts(script, "b", "a", "a") == ["any", "mine", None]


def test_cleared_script_is_empty() -> None:
    script = Script()
    script.add(entry("x", times=None))
    assert script.as_json() == [entry("x", times=None)]
    script.clear()
    assert texts(script, "a") == [None]


@pytest.mark.parametrize(
    "written",
    [
        3,
        {"behavior": {}},
        {"model": 3, "behaviour": {}},
        {"times": 0, "behaviour": {}},
        {"times": True, "behaviour": {}},
        {"behaviour": None},
        {"behaviour": {"status": "200"}},
        [entry("good"), {"behaviour": {"chunks": 0}}],
    ],
)
def test_wrong_entries_are_refused_and_nothing_is_added(written: Any) -> None:
    script = Script()
    with pytest.raises(RequestRefused):
        script.add(written)
    assert script.as_json() == []


def test_a_misspelt_key_is_named_with_its_neighbour() -> None:
    with pytest.raises(RequestRefused, match="Did you mean 'delay_seconds'") as caught:
        behaviour_from_json({"delay_second": 1}, "behaviour")
    assert caught.value.param == "behaviour.delay_second"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("delay_seconds", -1),
        ("delay_seconds", True),
        ("status", 99),
        ("headers", {"a": 1}),
        ("cut_after_bytes", 1.5),
        ("malformed", "yes"),
        ("usage", "none"),
        ("tool_calls", [{"arguments": {}}]),
        ("raw_sse", "data: x"),
    ],
)
def test_wrong_values_are_refused(key: str, value: Any) -> None:
    with pytest.raises(RequestRefused, match=f"behaviour.{key}"):
        behaviour_from_json({key: value}, "behaviour")
