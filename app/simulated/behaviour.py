"""What a tester can tell the upstream to do to one request.

It is read strictly: a misspelt key is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from app.simulated.faults import FAULTS
from app.simulated.provider_errors import PROVIDERS
from app.simulated.refusal import RequestRefused

ENDLESS = ("head", "body", "event", "chunks")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One scripted answer; what is left unset comes from the model's character.

    An event is one server-sent event of a stream, or the whole body of a plain answer.
    """

    delay_seconds: float | None = None
    """Before the head of the answer is sent."""
    first_byte_delay_seconds: float = 0.0
    """Between the head and the first byte of the body."""
    chunk_delay_seconds: float | None = None
    """Before each event but the first."""
    status: int = 200
    error: Any = None
    """The exact body in place of an answer, at any status: JSON, or a string sent as it is."""
    error_like: str | None = None
    """Whose errors the body and the headers of an answer that is not a 200 look like."""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    as_stream: bool | None = None
    """Answer with events, or with one body, whatever was asked for."""
    head_bytes: int = 0
    """So many more bytes of headers."""
    bad_framing: bool = False
    """The body comes in chunks whose sizes are no numbers."""
    gzip: bool = False
    """The body is compressed, whatever encoding was asked for."""
    gzip_bomb_bytes: int = 0
    """Compressed, with a content of so many bytes once it is inflated."""
    endless: str | None = None
    """What never ends: the `head`, the `body`, or of a stream one `event` or its `chunks`."""
    drip_bytes: int | None = None
    """Send so many bytes at a time."""
    drip_seconds: float = 0.05
    """Between two drips."""
    closes: bool = False
    """What is cut is closed in order, not reset."""
    cut_before_head: bool = False
    """Reset the connection before a single byte is sent."""
    cut_head_after_bytes: int | None = None
    """Reset the connection after so many bytes of the head."""
    cut_after_bytes: int | None = None
    """Reset the connection after so many bytes of the body."""
    cut_after_chunks: int | None = None
    """Reset the connection after so many events."""
    end_after_chunks: int | None = None
    """End the body in order after so many events."""
    stall_after_bytes: int | None = None
    """Send so many bytes of the body, then nothing until the client gives up."""
    stall_after_chunks: int | None = None
    """Send so many events, then nothing until the client gives up."""
    malformed: bool = False
    """Break the JSON: of the body, or of the stream's second event."""
    usage: Any = None
    """`missing`, or the exact usage object to report."""
    text: str | None = None
    tool_calls: list[dict[str, Any]] | int | None = None
    """A list of `{"name", "arguments"}`, or how many of the request's tools to call."""
    chunks: int | None = None
    """How many deltas with content a stream is cut into."""
    raw_sse: list[str] | None = None
    """The exact text of each event, blank line and all, in place of a composed answer."""


PLAIN = Behaviour()


def behaviour_from_json(written: Any, where: str) -> Behaviour:
    """Read a behaviour; RequestRefused names the key that is wrong. A null key counts as absent.

    `fault` stands for the keys of a named fault, which the other keys may change.
    """
    if not isinstance(written, dict):
        raise RequestRefused(f"'{where}' must be an object.", param=where)
    if "fault" in written:
        written = _spelt_out(written, f"{where}.fault")
    for key, value in written.items():
        if key not in _KINDS:
            near = get_close_matches(key, _KINDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RequestRefused(f"'{where}.{key}' is not known.{hint}", param=f"{where}.{key}")
        kind, holds = _KINDS[key]
        if value is not None and not holds(value):
            raise RequestRefused(f"'{where}.{key}' must be {kind}.", param=f"{where}.{key}")
    return Behaviour(**{key: value for key, value in written.items() if value is not None})


def _spelt_out(written: dict[str, Any], where: str) -> dict[str, Any]:
    """The keys that a fault stands for, in place of its name."""
    name = written["fault"]
    if not isinstance(name, str) or name not in FAULTS:
        near = get_close_matches(str(name), FAULTS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RequestRefused(f"'{where}' is no known fault.{hint}", param=where)
    return {**FAULTS[name], **{key: value for key, value in written.items() if key != "fault"}}


def is_whole(value: Any, low: int = 0, high: int = 1 << 53) -> bool:
    """True for an integer within bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_calls(value: Any) -> bool:
    named = isinstance(value, list) and all(
        isinstance(call, dict) and isinstance(call.get("name"), str) for call in value
    )
    return named or is_whole(value)


_SECONDS = ("a number >= 0", _is_seconds)
_COUNT = ("an integer >= 0", is_whole)
_FLAG = ("true or false", lambda value: isinstance(value, bool))
_TEXT = ("a string", lambda value: isinstance(value, str))
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "delay_seconds": _SECONDS,
    "first_byte_delay_seconds": _SECONDS,
    "chunk_delay_seconds": _SECONDS,
    "status": ("an integer from 200 to 599", lambda value: is_whole(value, 200, 599)),
    "error": ("anything", lambda _: True),
    "error_like": (f"one of {', '.join(PROVIDERS)}", lambda value: value in PROVIDERS),
    "headers": (
        "an object of strings",
        lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    ),
    "content_type": _TEXT,
    "as_stream": _FLAG,
    "head_bytes": _COUNT,
    "bad_framing": _FLAG,
    "gzip": _FLAG,
    "gzip_bomb_bytes": _COUNT,
    "endless": (f"one of {', '.join(ENDLESS)}", lambda value: value in ENDLESS),
    "drip_bytes": ("an integer >= 1", lambda value: is_whole(value, 1)),
    "drip_seconds": _SECONDS,
    "closes": _FLAG,
    "cut_before_head": _FLAG,
    "cut_head_after_bytes": _COUNT,
    "cut_after_bytes": _COUNT,
    "cut_after_chunks": _COUNT,
    "end_after_chunks": _COUNT,
    "stall_after_bytes": _COUNT,
    "stall_after_chunks": _COUNT,
    "malformed": _FLAG,
    "usage": (
        "'missing' or an object",
        lambda v: v == "missing" or isinstance(v, dict),
    ),
    "text": _TEXT,
    "tool_calls": ("a list of objects with a name, or an integer >= 0", _is_calls),
    "chunks": ("an integer >= 1", lambda value: is_whole(value, 1, 1_000_000)),
    "raw_sse": (
        "a list of strings",
        lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    ),
}
