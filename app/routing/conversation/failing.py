"""Tool results that say that the model is not getting on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_READ = 400
"""Characters at either end: an error says so where it begins, or where a long output ends."""
_FAILED = re.compile(
    r"^[\s\[(<*#`]*(?i:\w*error|\w*exception|traceback|failed|failure|fatal|panic|invalid|denied)\b"
    r"|\b[A-Z]\w*(?:Error|Exception)\s*[:(]"
    r"|(?i:\"(?:is_?)?error\"\s*:\s*(?:true|\"[^\"]|\{))"
    r"|(?i:\b(?:exit(?:ed)?|returned)(?: with)?(?: exit)?(?: code| status)?:? [1-9]\d*\b)"
    r"|\bexit_code\"?\s*[:=]\s*[1-9]"
    r"|Traceback \(most recent call last\)"
    r"|command not found|No such file or directory|Permission denied"
)


def failing_results(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many tool results at the end of a conversation look like errors, one after the other;
    what the model said in between does not count."""
    count = 0
    for message in reversed(messages):
        role = message["role"]
        if role in ("tool", "function"):
            if not looks_failed(message):
                return count
            count += 1
        elif role != "assistant":
            return count
    return count


def looks_failed(message: Mapping[str, Any]) -> bool:
    """Whether a tool result looks like an error."""
    text = _text(message.get("content"))
    ends = text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
    return _FAILED.search(ends) is not None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
