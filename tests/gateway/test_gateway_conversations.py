"""Conversations as clients meet them: they stay where their prompt is cached."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body

LONG = "word " * 6_000
"""Too long for `small`, so that `auto` takes `medium`."""


USED = {
    "prompt_tokens": 7_000,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 6_000},
}


@pytest.fixture
def served(gateway: Serve, simulated: Control) -> Gateway:
    """`medium` serves where short answers will do, else `large`, whose cached input is free."""
    short = STANDARD.replace(
        "quality: 0.8\n  large:", "quality: 0.8\n    max_output: 100\n  large:"
    )
    simulated.script(times=None, usage=USED)
    return gateway(short.replace("input: 5.00, cached_input: 0.50", "input: 1.1, cached_input: 0"))


def ask(
    served: Gateway, *messages: dict[str, Any], most: int = 5, stream: bool = False, **names: str
) -> httpx2.Response:
    asked = {"x-pointsman-debug": "true"}
    asked |= {name.replace("_", "-"): value for name, value in names.items()}
    fields = body(messages=list(messages), max_tokens=most, stream=stream)
    return served.http.post("/v1/chat/completions", json=fields, headers=asked)


def begin(text: str) -> dict[str, Any]:
    return {"role": "user", "content": LONG + text}


LATER = ({"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And then?"})


def told(answer: httpx2.Response) -> tuple[str, ...]:
    return tuple(answer.headers[f"x-pointsman-{name}"] for name in ("model", "decision", "reason"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_stays_where_its_prompt_is_cached(served: Gateway, stream: bool) -> None:
    first = begin(f"A conversation, stream {stream}.")
    assert told(ask(served, first, most=200, stream=stream))[0] == "large"
    # One that began otherwise has nothing cached.
    assert told(ask(served, begin("Another."), *LATER))[0] == "medium"
    assert told(ask(served, first, *LATER)) == ("large", "sticky", "prompt_cache")
    shown = served.http.post(
        "/v1/decision", json=body(messages=[first, *LATER], max_tokens=5)
    ).json()
    assert (shown["decision"], shown["model"]) == ("sticky", "large")
    assert shown["plan"][0] == "large"


def test_a_conversation_by_its_name(served: Gateway) -> None:
    first = begin("One that has a name.")
    assert told(ask(served, first, most=200, x_session_id="", x_conversation_id="c"))[0] == "large"
    assert told(ask(served, first, x_conversation_id="c"))[:2] == ("large", "sticky")
    assert told(ask(served, first, x_conversation_id="d"))[0] == "medium"
    assert told(ask(served, first))[0] == "medium"


def test_a_route_may_do_without(gateway: Serve, served: Gateway) -> None:
    text = (served.folder / "config.yaml").read_text()
    alone = gateway(text.replace("{", "{{").replace("}", "}}") + "    affinity: false\n")
    first = begin("Each by itself.")
    assert told(ask(alone, first, most=200))[0] == "large"
    assert told(ask(alone, first, *LATER))[0] == "medium"


def test_failing_tools_bring_the_next_stronger_model(gateway: Serve, simulated: Control) -> None:
    better = STANDARD.replace("quality: 0.8\n  large:", "quality: 0.9\n  large:")
    served = gateway(better)
    simulated.clear()
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "Error: no such table"},
    ]
    question = {"role": "user", "content": "Count the rows."}
    for count, model in ((2, "small"), (3, "medium")):
        answer = ask(served, question, *turn * count)
        assert answer.headers["x-pointsman-model"] == model
    assert answer.headers["x-pointsman-decision"] == "sticky"
    assert answer.headers["x-pointsman-reason"] == "escalated"
    told = served.http.post("/v1/decision", json=body(messages=[question, *turn * 3])).json()
    assert (told["decision"], told["reason"]) == ("sticky", "stays_escalated")
