"""Which conversation a request belongs to, and what in it has failed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.accounting.caller import ANONYMOUS, Caller
from app.exchange.request import Request
from app.routing.conversation.failing import failing_results
from app.routing.conversation.identity import Identity, follows, identify
from app.wire import openai_chat

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
REPLY = {"role": "assistant", "content": "Hi"}
MORE = {"role": "user", "content": "And then?"}


def of(
    *messages: dict[str, Any], session: str | None = None, caller: Caller = ANONYMOUS,
    route: str = "auto", **fields: Any,
) -> Identity:  # fmt: skip
    return identify(asking(*messages, session=session, **fields), route, caller)


def asking(*messages: dict[str, Any], session: str | None = None, **fields: Any) -> Request:
    body = orjson.dumps({"model": "auto", "messages": messages, **fields})
    return openai_chat.parse(
        body, request_id="r", started=0, received=0, max_images=0, session=session
    )


def test_what_follows_something() -> None:
    assert not follows(asking(SYSTEM, HELLO))
    assert follows(asking(SYSTEM, HELLO, REPLY, MORE))
    assert follows(asking(HELLO, session="s"))


def test_a_conversation_is_known_by_how_it_began() -> None:
    first, later = of(SYSTEM, HELLO), of(SYSTEM, HELLO, REPLY, MORE)
    assert first == later
    others = [
        of(HELLO),
        of(SYSTEM, MORE),
        of(SYSTEM, HELLO, caller=Caller("ann")),
        of(SYSTEM, HELLO, route="other"),
        of(SYSTEM, HELLO, user="somebody"),
    ]
    assert len({first.key, *(one.key for one in others)}) == 6


def test_a_name_is_stronger_than_the_beginning() -> None:
    named = of(SYSTEM, HELLO, session="s1")
    trimmed = of(MORE, session="s1")
    assert named.key == trimmed.key != of(SYSTEM, HELLO).key
    assert named.beginning != trimmed.beginning
    assert of(HELLO, session="s1", caller=Caller("ann")).key != named.key
    # Nobody names a conversation as another one began.
    assert of(HELLO, session=of(HELLO).beginning.hex()).key != of(HELLO).key


def tools(*results: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [HELLO]
    for result in results:
        messages += [{"role": "assistant", "content": None, "tool_calls": []}]
        messages += [{"role": "tool", "tool_call_id": "c", "content": result}]
    return messages


@pytest.mark.parametrize(
    "text",
    [
        "Error: no such table",
        "TypeError: unsupported operand",
        'Traceback (most recent call last):\n  File "a.py"\nKeyError: 1',
        '{"error": {"message": "not found"}}',
        '{"is_error": true}',
        "bash: foo: command not found",
        "cat: x: No such file or directory",
        "compiling\n" + "." * 2_000 + "\nexited with code 2",
        "Failed to open",
    ],
)
def test_what_looks_like_an_error(text: str) -> None:
    assert failing_results(tools(text)) == 1
    assert failing_results(tools([{"type": "text", "text": text}])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "3 files changed",
        '{"error": null, "rows": 3}',
        "0 errors, 12 passed; exited with code 0",
        "def on_error(event): ...",
        "",
        None,
        "x" * 1_000 + " Error: in the middle " + "x" * 1_000,
    ],
)
def test_what_does_not(text: str | None) -> None:
    assert failing_results(tools(text)) == 0


def test_only_what_failed_last_counts() -> None:
    assert failing_results(tools("Error: a", "fine", "Error: b", "Error: c")) == 2
    assert failing_results([*tools("Error: a", "Error: b"), MORE]) == 0
    assert failing_results([*tools("Error: a"), REPLY]) == 1
    assert failing_results([HELLO]) == 0
