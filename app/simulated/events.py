"""An answer as the `chat.completion.chunk` events of a stream, delta by delta."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import orjson

from app.simulated.answer import Answer, Call, Choice
from app.simulated.completion import FINGERPRINT
from app.simulated.logprobs import logprobs_of
from app.simulated.words import cut_into

DONE = b"data: [DONE]\n\n"

Step = tuple[dict[str, Any], list[str], str | None]
"""A delta, the tokens it stands for, and a finish reason."""


def events(answer: Answer, include_usage: bool) -> list[bytes]:
    """Every event of a stream; usage, if asked for, is null in each chunk but a last one."""
    frame: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": FINGERPRINT,
    }
    if answer.service_tier is not None:
        frame["service_tier"] = answer.service_tier
    if include_usage:
        frame["usage"] = None
    sent = [event({**frame, "choices": [choice]}) for choice in _choices(answer)]
    if include_usage and answer.usage is not None:
        sent.append(event({**frame, "choices": [], "usage": answer.usage}))
    return [*sent, DONE]


def event(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _choices(answer: Answer) -> Iterator[dict[str, Any]]:
    """Deltas of all choices in turn, as a provider interleaves them."""
    rows = zip_longest(*(_steps(choice, answer.deltas) for choice in answer.choices))
    for row in rows:
        for choice, step in zip(answer.choices, row, strict=True):
            if step is None:
                continue
            delta, tokens, finish_reason = step
            logprobs = logprobs_of(tokens, answer.top_logprobs) if tokens else None
            yield {
                "index": choice.index,
                "delta": delta,
                "logprobs": logprobs,
                "finish_reason": finish_reason,
            }


def _steps(choice: Choice, deltas: int | None) -> Iterator[Step]:
    content = None if choice.calls else ""
    yield {"role": "assistant", "content": content, "refusal": None}, [], None
    for piece in cut_into(choice.tokens, deltas) if deltas else choice.tokens:
        yield {"content": piece}, [piece], None
    for place, call in enumerate(choice.calls):
        yield from _call(place, call)
    yield {}, [], choice.finish_reason


def _call(place: int, call: Call) -> Iterator[Step]:
    """One call: its id, type and name once, then its arguments piece by piece."""
    opening = {"name": call.name, call.argument_key: ""}
    first = {"index": place, "id": call.id, "type": call.kind, call.kind: opening}
    yield {"tool_calls": [first]}, [], None
    for piece in call.arguments:
        yield {"tool_calls": [{"index": place, call.kind: {call.argument_key: piece}}]}, [], None
