"""Going on with a broken stream on another model, which is given what had come as a prefix.

Where the route wants it, and only for plain text: of one choice, without tools or a format that
another model would have to hit in the middle. A comment marks the seam.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import orjson

from app.delivery.attempt import Opened
from app.delivery.drain import Drain
from app.delivery.relay import Relay, stopped_event
from app.errors import GatewayStopping, UpstreamError
from app.exchange.request import Request
from app.wire import sse
from app.wire.openai_chat import error_body
from app.wire.splice import set_value

MOST_BYTES = 4 * 1024 * 1024
"""Of a stream that is kept to be continued; a longer one is not."""
_BYTES_PER_TOKEN = 4
_IN_THE_WAY = ("tools", "functions", "logprobs", "audio", "prediction")
_TEXT_ONLY = frozenset({"role", "content"})

Next = Callable[[Request], Coroutine[Any, Any, tuple[Opened, str] | None]]
"""Delivers a request to a model that has not failed in it, and gives the model's name as well; None
if there is none. May raise UpstreamError."""


def is_plain(payload: Mapping[str, Any]) -> bool:
    """Whether an answer to this is text that another model can go on with."""
    if any(payload.get(name) for name in _IN_THE_WAY) or (payload.get("n") or 1) != 1:
        return False
    form = payload.get("response_format")
    return form is None or form.get("type") == "text"


def text_of(stream: bytes) -> str | None:
    """The text of a stream's whole events up to an error; None if there is none, if it was over,
    or if there was more than text."""
    parts: list[str] = []
    for event in sse.split(stream):
        data = sse.data_of(event)
        if not data or data == sse.DONE:
            continue
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            break
        if not isinstance(chunk, dict) or chunk.get("error"):
            break
        for choice in chunk.get("choices") or ():
            text = _text_of_choice(choice)
            if text is None:
                return None
            parts.append(text)
    return "".join(parts) or None


def _text_of_choice(choice: Any) -> str | None:
    """The text of one delta; None if it says more, or the end."""
    if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("index"):
        return None
    delta = choice.get("delta") or {}
    told = {name for name, value in delta.items() if value}
    text = delta.get("content") or ""
    return text if told <= _TEXT_ONLY and isinstance(text, str) else None


def with_prefix(request: Request, text: str) -> Request:
    """The request, with a text that its answer is to go on from, and so much less room for it."""
    payload = dict(request.payload)
    payload["messages"] = [*payload["messages"], {"role": "assistant", "content": text}]
    body = set_value(request.body, "messages", orjson.dumps(payload["messages"]))
    for name in ("max_completion_tokens", "max_tokens"):
        if most := payload.get(name):
            payload[name] = max(1, most - len(text.encode()) // _BYTES_PER_TOKEN)
            body = set_value(body, name, orjson.dumps(payload[name]))
    return replace(request, body=body, payload=payload)


class Continuing:
    """A relay that turns to another model when its upstream fails; like `Relay` to who reads it.

    `noted` is told how each part ended, `ended` once how all of it did. While another model is
    asked a comment comes every `comment_seconds`; None: one, at first.
    """

    def __init__(
        self,
        request: Request,
        opened: Opened,
        following: Next,
        *,
        noted: Callable[[Opened, str], None],
        ended: Callable[[str], None],
        comment_seconds: float | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._drain = drain or Drain()
        self._request, self._following = request, following
        self._noted, self._ended = noted, ended
        self._comment_seconds = comment_seconds
        self._asking: asyncio.Task[tuple[Opened, str] | None] | None = None
        """Another model, as long as it has not begun."""
        self._text = ""
        self._outcome = "client_gone"
        self._over = False
        self.moved: Callable[[float | None], None] = lambda deadline: None
        """Told of a new deadline, and of none while another model is asked, which has its own."""
        self._take(opened)

    def _take(self, opened: Opened) -> None:
        opened.reader.keep(MOST_BYTES)
        self._opened = opened
        self._relay = Relay(opened, self._part_ended, self._drain, raises=True)

    def _part_ended(self, outcome: str) -> None:
        self._outcome = outcome
        self._noted(self._opened, outcome)

    @property
    def deadline(self) -> float:
        """On the loop's clock: when the time of the upstream that now answers is over."""
        return self._relay.deadline

    async def events(self) -> AsyncIterator[bytes]:
        """Blocks of whole events for the client."""
        mended = False
        while True:
            try:
                async for block in self._relay.events():
                    yield _without_role(block) if mended else block
                return
            except UpstreamError as error:
                self._relay.close()
                failed, outcome = error, self._outcome
            self._outcome, model = "client_gone", None  # should it leave meanwhile
            try:
                if (rest := self._rest()) is not None:
                    self.moved(None)
                    asking = self._asking = asyncio.create_task(self._following(rest))
                    while not asking.done():
                        # At once, as who sends them looks at the deadline with each block.
                        yield sse.KEEP_ALIVE
                        await asyncio.wait([asking], timeout=self._comment_seconds)
                    self._asking, model = None, self._go_on(asking)
            except asyncio.CancelledError:
                if not self._drain.over:
                    raise
                self._outcome = GatewayStopping.outcome
                yield stopped_event()
                return
            if model is None:
                self._outcome = outcome
                self.moved(asyncio.get_running_loop().time())
                yield sse.event(error_body(failed.message, failed.type, None, failed.code))
                return
            mended = True
            yield b": pointsman continued on " + model.encode() + b"\n\n"

    def _rest(self) -> Request | None:
        """What another model would be asked; None where none can go on."""
        kept = self._opened.reader.kept
        text = None if kept is None else text_of(kept)
        if text is None:
            return None
        self._text += text
        return with_prefix(self._request, self._text)

    def _go_on(self, asked: asyncio.Task[tuple[Opened, str] | None]) -> str | None:
        """Take another model's stream; its name, or None if there is none that goes on."""
        try:
            found = asked.result()
        except UpstreamError:
            return None
        if found is None:
            return None
        opened, model = found
        self._take(opened)
        self.moved(self.deadline)
        return model

    def close(self) -> None:
        """Must be called by who reads: cancels what is still at work, and settles."""
        self._relay.close()
        if self._over:
            return
        self._over = True
        if self._asking is None:
            self._ended(self._outcome)
        else:
            self._asking.cancel()
            # Settled when it has ended: only then its attempts are noted.
            self._asking.add_done_callback(self._left)

    def _left(self, asked: asyncio.Task[tuple[Opened, str] | None]) -> None:
        if not asked.cancelled() and asked.exception() is None and (found := asked.result()):
            self._take(found[0])
            self._relay.close()
        self._ended(self._outcome)


def _without_role(block: bytes) -> bytes:
    """The message has begun already: a second role would be added to the first by some clients."""
    if b'"role"' not in block:
        return block
    kept = []
    for event in sse.split(block):
        data = sse.data_of(event)
        kept.append(_event_without_role(data) or event if b'"role"' in data else event)
    return b"".join(kept)


def _event_without_role(data: bytes) -> bytes | None:
    """The event written anew; None if it can't be read, and so is none of ours to change."""
    try:
        chunk = orjson.loads(data)
        for choice in chunk.get("choices") or ():
            (choice.get("delta") or {}).pop("role", None)
    except (ValueError, AttributeError):
        return None
    return sse.event(orjson.dumps(chunk))


Relaying = Relay | Continuing
