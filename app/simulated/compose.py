"""From a request to an answer: what the simulated model says, how much, and what it used."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any

import orjson

from app.simulated.answer import Answer, Call, Choice
from app.simulated.behaviour import Behaviour, is_whole
from app.simulated.character import Character
from app.simulated.instance import instance_of
from app.simulated.prompt import PromptCache, count_prompt
from app.simulated.refusal import RequestRefused
from app.simulated.tools import calls_for
from app.simulated.words import filler, tokens_of

REASONING_TOKENS = {"minimal": 16, "low": 64, "medium": 256, "high": 1024, "xhigh": 2048}
_MOST_CHOICES = 128
_MOST_TOP_LOGPROBS = 20


def compose(
    payload: dict[str, Any], behaviour: Behaviour, character: Character, cache: PromptCache
) -> Answer:
    """Answer a request, the same one always alike. RequestRefused if it asks for nonsense."""
    _check(payload)
    digest = _digest(payload)
    reasoning = REASONING_TOKENS.get(str(payload.get("reasoning_effort")), 0)
    limit = payload.get("max_completion_tokens") or payload.get("max_tokens")
    reasoning = reasoning if limit is None else min(reasoning, limit)
    budget = None if limit is None else limit - reasoning
    choices = [
        _choice(index, payload, behaviour, character, digest, budget)
        for index in range(payload.get("n") or 1)
    ]
    made = reasoning + sum(choice.token_count for choice in choices)
    tier = payload.get("service_tier")
    return Answer(
        id=f"chatcmpl-{digest:016x}",
        created=int(time.time()),
        model=payload["model"],
        choices=choices,
        usage=_usage(payload, behaviour, cache, made, reasoning),
        token_count=made,
        service_tier="default" if tier == "auto" else tier,
        top_logprobs=(payload.get("top_logprobs") or 0) if payload.get("logprobs") else None,
        deltas=behaviour.chunks,
    )


def _check(payload: dict[str, Any]) -> None:
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefused("'messages' must be a non-empty array.", param="messages")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            param = f"messages[{place}]"
            raise RequestRefused(f"'{param}' must be an object with a role.", param=param)
    _check_whole(payload, "n", 1, _MOST_CHOICES)
    _check_whole(payload, "max_tokens", 1)
    _check_whole(payload, "max_completion_tokens", 1)
    _check_whole(payload, "top_logprobs", 0, _MOST_TOP_LOGPROBS)
    tools = payload.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise RequestRefused("'tools' must be an array.", param="tools")


def _check_whole(payload: dict[str, Any], name: str, low: int, high: int = 1 << 53) -> None:
    value = payload.get(name)
    if value is not None and not is_whole(value, low, high):
        most = f" and at most {high}" if high < 1 << 53 else ""
        raise RequestRefused(f"'{name}' must be an integer of at least {low}{most}.", param=name)


def _digest(payload: dict[str, Any]) -> int:
    """A number that stands for everything that should change the answer, and nothing else."""
    parts = [payload.get(key) for key in ("model", "messages", "tools", "seed")]
    try:
        written = orjson.dumps(parts)
    except orjson.JSONEncodeError as error:
        raise RequestRefused(f"Your request is nested too deeply: {error}.") from error
    return int.from_bytes(blake2b(written, digest_size=8).digest())


def _choice(
    index: int,
    payload: dict[str, Any],
    behaviour: Behaviour,
    character: Character,
    digest: int,
    budget: int | None,
) -> Choice:
    question = last_question(payload["messages"])
    try:
        calls = calls_for(payload, behaviour, question, f"{digest + index:016x}")
        text = "" if calls else _text(payload, behaviour, character, digest + index, question)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestRefused(f"Invalid schema: {error}", code="invalid_schema") from error
    whole = Choice(index, tokens_of(text), calls, "tool_calls" if calls else "stop")
    if budget is None or whole.token_count <= budget:
        return whole
    return Choice(index, whole.tokens[:budget], _cut(calls, budget), "length")


def _cut(calls: list[Call], budget: int) -> list[Call]:
    """What a limit leaves of the calls: the last one's arguments may end in the middle."""
    kept = []
    for call in calls:
        budget -= 1
        if budget < 0:
            break
        kept.append(Call(call.id, call.name, call.arguments[:budget], call.custom))
        budget = max(0, budget - len(call.arguments))
    return kept


def _text(
    payload: dict[str, Any], behaviour: Behaviour, character: Character, seed: int, question: str
) -> str:
    if behaviour.text is not None:
        return behaviour.text
    wanted = payload.get("response_format")
    wanted = wanted if isinstance(wanted, dict) else {}
    kind = wanted.get("type")
    if kind == "json_schema":
        return orjson.dumps(instance_of(wanted["json_schema"].get("schema"))).decode()
    if kind == "json_object":
        return orjson.dumps({"simulated": True, "model": payload["model"]}).decode()
    return filler(payload["model"], question, behaviour.chunks or character.words, seed)


def last_question(messages: list[dict[str, Any]]) -> str:
    """Text of the last user message, empty if there is none."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, list) else ()
            return " ".join(str(part["text"]) for part in parts if _has_text(part))
    return ""


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _usage(
    payload: dict[str, Any], behaviour: Behaviour, cache: PromptCache, made: int, reasoning: int
) -> dict[str, Any] | None:
    if behaviour.usage is not None:
        return None if behaviour.usage == "missing" else dict(behaviour.usage)
    counts = count_prompt(payload)
    prompt = sum(counts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {
            "cached_tokens": cache.cached_tokens(payload, counts),
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
