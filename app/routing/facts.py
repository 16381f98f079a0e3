"""What a request needs, and the words of it that say how hard it is.

The instruction is what the user asked: the last user turn, without the harness around it. Tool
results, system prompts and injected reminders are not the user; they count as size only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

INSTRUCTION_CHARACTERS = 6_000
"""A longer instruction is cut to head and tail: the task stands at either end of a long paste."""

_HEAD_SHARE = 0.6
_SHORT_TURN = 24
"""A turn as short as "yes, do that" says nothing alone; the turn before it is put in front."""

_IMAGE_TOKENS = 800
_AUDIO_TOKENS = 500
_FILE_TOKENS = 2_000
_MESSAGE_TOKENS = 4
_ASCII_PER_TOKEN = 4.0
_OTHER_PER_TOKEN = 1.7

# Blocks that coding assistants put into the user's turn; what is between the tags is not the user.
_HARNESS_TAG = re.compile(
    r"<(/?)(system-reminder|environment_details|environment_context|user_info|git_status"
    r"|additional_data|attached_files|open_and_recently_viewed_files|command-message"
    r"|local-command-stdout|persisted-output|workspace_info)>",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one request; sizes in tokens are estimates."""

    instruction: str
    input_tokens: int
    max_output: int | None
    choices: int
    needs: frozenset[str]
    turns: int
    """Messages by the user."""
    tool_results: int


def inspect(payload: Mapping[str, Any]) -> Facts:
    """Facts of a valid chat-completions payload (see `wire.openai_chat.parse`)."""
    users: list[str] = []
    needs: set[str] = set()
    tokens, tool_results = 0.0, 0
    for message in payload["messages"]:
        text, size = _read(message.get("content"), needs)
        tokens += _MESSAGE_TOKENS + size
        calls = message.get("tool_calls") or message.get("function_call")
        role = message["role"]
        if role == "user":
            users.append(text)
        elif role in ("tool", "function"):
            tool_results += 1
        if calls:
            tokens += _json_size(calls)
        if calls or role in ("tool", "function"):
            needs.add("tools")
    _needs_of_options(payload, needs)
    for key in ("tools", "functions", "response_format"):
        if payload.get(key):
            tokens += _json_size(payload[key])
    return Facts(
        instruction=_instruction(users),
        input_tokens=int(tokens) + 1,
        max_output=payload.get("max_completion_tokens") or payload.get("max_tokens"),
        choices=payload.get("n") or 1,
        needs=frozenset(needs),
        turns=len(users),
        tool_results=tool_results,
    )


def _read(content: Any, needs: set[str]) -> tuple[str, float]:
    """Text of a message's content and its size in tokens; notes what its parts need."""
    if isinstance(content, str):
        return content, _size(content)
    if not isinstance(content, list):
        return "", 0.0
    texts: list[str] = []
    size = 0.0
    for part in content:
        match part.get("type"):
            case "text":
                text = part.get("text")
                if isinstance(text, str):
                    texts.append(text)
                    size += _size(text)
            case "image_url" | "input_image" | "image":
                needs.add("vision")
                size += _IMAGE_TOKENS
            case "input_audio":
                needs.add("audio")
                size += _AUDIO_TOKENS
            case "file":
                needs.add("files")
                size += _FILE_TOKENS
    return "\n".join(texts), size


def _needs_of_options(payload: Mapping[str, Any], needs: set[str]) -> None:
    if payload.get("tools") or payload.get("functions"):
        needs.add("tools")
    if payload.get("parallel_tool_calls") and payload.get("tools"):
        needs.add("parallel_tools")
    if payload.get("logprobs"):
        needs.add("logprobs")
    if "audio" in (payload.get("modalities") or ()):
        needs.add("audio")
    response_format = payload.get("response_format")
    if response_format and response_format.get("type") in ("json_object", "json_schema"):
        needs.add(response_format["type"])


def _size(text: str) -> float:
    """Tokens of a text: about four ASCII characters each, fewer of other scripts."""
    if text.isascii():
        return len(text) / _ASCII_PER_TOKEN
    plain = len(text.encode("ascii", "ignore"))
    return plain / _ASCII_PER_TOKEN + (len(text) - plain) / _OTHER_PER_TOKEN


def _json_size(value: Any) -> float:
    return len(orjson.dumps(value)) / _ASCII_PER_TOKEN


def _instruction(users: list[str]) -> str:
    said = [words for words in (_without_harness(text) for text in reversed(users)) if words]
    if not said:
        return ""
    if len(said) > 1 and len(said[0]) < _SHORT_TURN:
        return head_and_tail(f"{said[1]}\n{said[0]}")
    return head_and_tail(said[0])


def _without_harness(text: str) -> str:
    """Drop every closed harness block, in one pass over the tags however many there are."""
    if "</" not in text:
        return text.strip()
    kept: list[str] = []
    position, opened, depth = 0, None, 0
    for tag in _HARNESS_TAG.finditer(text):
        closing, name = tag.group(1), tag.group(2).lower()
        if opened is None:
            opened, depth = (None, 0) if closing else (tag, 1)
        elif name == opened.group(2).lower():
            depth += -1 if closing else 1
            if depth == 0:
                kept.append(text[position : opened.start()])
                position, opened = tag.end(), None
    kept.append(text[position:])
    return "".join(kept).strip()


def head_and_tail(text: str, limit: int = INSTRUCTION_CHARACTERS) -> str:
    """A long text without its middle."""
    if len(text) <= limit:
        return text
    head = int(limit * _HEAD_SHARE)
    return f"{text[:head]}\n...\n{text[head - limit :]}"
