"""One chat request as a client sends it, and what came of it: for loads that are no race.

`benchmarks.load` measures speed and takes any error for the end. This one is for runs in which
errors are meant, clients leave, and each answer is to be told apart.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp

GONE, BROKEN, UNREACHABLE = "client left", "stream broken", "connection error"
"""Outcomes beside the statuses."""
_DONE, _ERROR, _DATA = b"data: [DONE]", b'data: {"error"', b"data: "
_KEPT_BYTES = 64


@dataclass(frozen=True)
class Leave:
    """When a client hangs up: after so many pieces of the answer, or seconds from its sending."""

    pieces: int | None = None
    seconds: float | None = None


STAY = Leave()


@dataclass
class Answer:
    """What a client saw. `outcome` is the status of a whole answer, or one of the names above."""

    outcome: str = UNREACHABLE
    request_id: str | None = None
    model: str | None = None
    code: str | None = None
    sent_at: float = 0.0
    first_seconds: float | None = None
    """To the first event of a stream."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.outcome == "200"


def session(api_key: str = "", connections: int = 0) -> aiohttp.ClientSession:
    """A client; `connections` bounds how many it has, 0 for no bound."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=120),
        headers={"authorization": f"Bearer {api_key}"} if api_key else None,
    )


async def ask(
    http: aiohttp.ClientSession, base_url: str, body: bytes, leave: Leave = STAY, api_key: str = ""
) -> Answer:
    """Send one request. Never raises but for cancellation."""
    answer = Answer(sent_at=time.time())
    started = time.perf_counter()
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    try:
        async with asyncio.timeout(leave.seconds):
            async with http.post(
                f"{base_url}/v1/chat/completions", data=body, headers=headers
            ) as reply:
                await _read(reply, answer, leave, started)
    except TimeoutError:
        answer.outcome = GONE if leave.seconds is not None else UNREACHABLE
    except aiohttp.ClientError:
        answer.outcome = UNREACHABLE
    answer.seconds = time.perf_counter() - started
    return answer


async def _read(
    reply: aiohttp.ClientResponse, answer: Answer, leave: Leave, started: float
) -> None:
    answer.request_id = reply.headers.get("x-pointsman-request-id")
    answer.model = reply.headers.get("x-pointsman-model")
    if not reply.content_type.startswith("text/event-stream"):
        body = await reply.read()
        answer.outcome = str(reply.status)
        if reply.status != 200:
            answer.code = _code(body)
        return
    pieces, tail, whole = 0, b"", False
    async for piece in reply.content.iter_any():
        text = tail + piece
        if answer.first_seconds is None and _DATA in text:
            answer.first_seconds = time.perf_counter() - started
        if _ERROR in text:
            answer.outcome, answer.code = BROKEN, _code(text[text.index(_ERROR) + len(_DATA) :])
            return
        whole = whole or _DONE in text
        tail = text[-_KEPT_BYTES:]
        pieces += 1
        if pieces == leave.pieces:
            answer.outcome = GONE
            # Hang up, and leave nothing for the connection to be kept for.
            reply.close()
            return
    answer.outcome = str(reply.status) if whole else BROKEN


def _code(body: bytes) -> str | None:
    """The error's code, of a body that may go on after it."""
    _, found, rest = body.partition(b'"code":')
    return rest.split(b",")[0].split(b"}")[0].strip(b' "').decode() if found else None
