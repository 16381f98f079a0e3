"""An answer as one `chat.completion` body."""

from __future__ import annotations

from typing import Any

from app.simulated.answer import Answer, Call, Choice
from app.simulated.logprobs import logprobs_of

FINGERPRINT = "simulated"


def completion(answer: Answer) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    body: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [_choice(choice, answer.top_logprobs) for choice in answer.choices],
    }
    if answer.usage is not None:
        body["usage"] = answer.usage
    if answer.service_tier is not None:
        body["service_tier"] = answer.service_tier
    body["system_fingerprint"] = FINGERPRINT
    return body


def _choice(choice: Choice, top_logprobs: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if choice.calls else "".join(choice.tokens),
        "refusal": None,
        "annotations": [],
    }
    if choice.calls:
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return {
        "index": choice.index,
        "message": message,
        "logprobs": logprobs_of(choice.tokens, top_logprobs),
        "finish_reason": choice.finish_reason,
    }


def _call(call: Call) -> dict[str, Any]:
    said = {"name": call.name, call.argument_key: "".join(call.arguments)}
    return {"id": call.id, "type": call.kind, call.kind: said}
