"""The log. Messages name requests by id and never hold prompts, keys or bodies.

Written off the event loop: a message is put into a queue, and a thread makes it a line of text or
of JSON and writes it.
"""

from __future__ import annotations

import atexit
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from time import monotonic
from typing import Any, Literal, cast
from urllib.parse import quote

import orjson

from app.errors import UpstreamError
from app.exchange.money import usd_text
from app.exchange.record import Record

log = logging.getLogger("pointsman")

Format = Literal["text", "json"]

current: ContextVar[Record | None] = ContextVar("current", default=None)
"""The request that this task serves; what is logged meanwhile is of it."""

CHAT_PATH = "/v1/chat/completions"
_LONGEST_PATH = 200
_QUIET_SECONDS = 1.0
_listening: list[QueueListener] = []
MOST_WAITING = 20_000
"""Messages, of a kilobyte or so: a pipe that nobody reads must not fill the memory."""


def configure(level: str = "INFO", format_: Format = "text") -> None:
    """Send the log to standard error, a line a message. Everybody's: also what libraries tell."""
    while _listening:
        _listening.pop().stop()
    writing = logging.StreamHandler()
    writing.setFormatter(JSONLines() if format_ == "json" else Text())
    queue: SimpleQueue[Any] = SimpleQueue()
    listener = QueueListener(queue, writing)
    listener.start()
    _listening.append(listener)
    logging.basicConfig(level=level, handlers=[_Handing(queue)], force=True)


def waiting() -> int:
    """Messages that are still to be written."""
    return sum(cast("SimpleQueue[Any]", each.queue).qsize() for each in _listening)


@atexit.register
def flush() -> None:
    """Write what still waits; nothing is written after."""
    while _listening:
        _listening.pop().stop()


class _Handing(QueueHandler):
    """Notes what only the caller's task knows; the rest can be done elsewhere."""

    _left_out = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if waiting() >= MOST_WAITING:
            self._left_out += 1
            return
        if self._left_out:
            text = "%d messages were left out: the log is written too slowly"
            told = logging.LogRecord(
                log.name, logging.WARNING, __file__, 0, text, (self._left_out,), None
            )
            self._left_out = 0
            super().enqueue(told)
        super().enqueue(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        request = current.get()
        if request is not None:
            record.request_id = request.request_id
            record.trace_id = None if request.trace is None else request.trace.id
        # Made text here, as its arguments may have changed by the time it is written.
        record.msg, record.args = record.getMessage(), None
        return record


class Text(logging.Formatter):
    """A line to read."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JSONLines(logging.Formatter):
    """A JSON object a line: `time`, `level`, `logger`, `message`, where there is one `request_id`,
    `trace_id` and `exception`, and what a message gives as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("request_id", "trace_id"):
            if (value := getattr(record, name, None)) is not None:
                told[name] = value
        told |= cast("dict[str, Any]", getattr(record, "fields", {}))
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str).decode()


_access = logging.getLogger("pointsman.access")


def request_line(record: Record) -> None:
    """A settled chat request, in a line: no prompt and no key."""
    usage = record.usage
    fields = {
        "method": "POST",
        "path": CHAT_PATH,
        "status": record.status,
        "outcome": record.outcome,
        "route": record.route,
        "model": record.model,
        "decision": record.decision,
        "attempts": len(record.attempts),
        "duration_seconds": round(record.duration_seconds, 6),
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cost_usd": None if record.cost is None else usd_text(record.cost),
        "saved_usd": None if record.saved is None else usd_text(record.saved),
    }
    _access.info(
        "%s POST %s %d %s, route %s, model %s, %.3f s, $%s",
        record.request_id, CHAT_PATH, record.status, record.outcome, record.route, record.model,
        record.duration_seconds, fields["cost_usd"] or "?", extra={"fields": fields},
    )  # fmt: skip


def other_line(request_id: str, method: str, path: str, status: int, seconds: float) -> None:
    """Any other request. Its query is left out: it is the place for what nobody should log."""
    path = quote(path[:_LONGEST_PATH])  # it came decoded, and may hold a line's end
    fields = {
        "request_id": request_id, "method": method, "path": path, "status": status,
        "duration_seconds": round(seconds, 6),
    }  # fmt: skip
    _access.info(
        "%s %s %s %d, %.3f s", request_id, method, path, status, seconds,
        extra={"fields": fields},
    )  # fmt: skip


class Sparse:
    """At most one message a second for each key, which then tells how many were left out."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, ...], float] = {}
        self._left_out: dict[tuple[str, ...], int] = {}

    def allows(self, *key: str) -> str | None:
        """None to stay silent; else what to append to the message."""
        now = monotonic()
        if now - self._last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return None
        self._last[key] = now
        left_out = self._left_out.pop(key, 0)
        return f" ({left_out} more like this were left out)" if left_out else ""


_attempts = Sparse()


def attempt_failed(request_id: str, upstream: str, model: str, error: UpstreamError) -> None:
    """An upstream failed; in an outage a line a second, not a line a request."""
    more = _attempts.allows(upstream, model, error.outcome)
    if more is not None:
        cause = f": {type(error.__cause__).__name__}" if error.__cause__ else ""
        log.warning(
            "request %s, model %s: %s [%s%s]%s",
            request_id, model, error.message, error.outcome, cause, more,
        )  # fmt: skip
