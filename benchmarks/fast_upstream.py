"""A minimal OpenAI-speaking server that costs so little that what is measured is the gateway.

It answers every chat completion with the same 954 bytes, or with a stream whose length and pace
the model id chooses: `fast-200x5` streams 200 chunks, 5 ms apart (`x0`: as fast as the client
reads). Each chunk is a write of its own, as a provider's are.

    python -m benchmarks.fast_upstream --port 9000
"""

from __future__ import annotations

import argparse
import asyncio
import re
from functools import lru_cache
from typing import Any, cast

import orjson
import uvloop

from benchmarks.chunked import ChunkedDecoder, MalformedChunk

ANSWER_BYTES = 954
ANSWER_MARK = "that is all."
"""Ends every non-streamed answer, so that the load generator can tell a whole one."""
DEFAULT_CHUNKS = 20
MODEL_IDS = ("fast", "fast-20x0", "fast-200x5")

_LONGEST_HEAD = 64 * 1024
_CREATED = 1_760_000_000
_STREAM_SHAPE = re.compile(r"-(\d{1,6})x(\d{1,6})$")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked")


def stream_shape(model: str) -> tuple[int, float]:
    """How many chunks a stream of this model id has, and the seconds between two."""
    shape = _STREAM_SHAPE.search(model)
    return (int(shape[1]), int(shape[2]) / 1000) if shape else (DEFAULT_CHUNKS, 0.0)


def respond(status: str, body: bytes) -> bytes:
    """A whole HTTP answer with a JSON body."""
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def refuse(status: str, message: str) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return respond(status, orjson.dumps({"error": error}))


@lru_cache(maxsize=256)
def completion(model: str) -> bytes:
    """The one non-streamed answer, padded so that its body has `ANSWER_BYTES` bytes."""
    usage = {
        "prompt_tokens": 62,
        "completion_tokens": 128,
        "total_tokens": 190,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER_MARK, "refusal": None}
    answer = {
        "id": "chatcmpl-fastupstream00000000000000",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
        "system_fingerprint": "fp_fast",
    }
    missing = max(ANSWER_BYTES - len(orjson.dumps(answer)), 1)
    words = "The answer is short and always the same. " * (missing // 40 + 1)
    message["content"] = f"{words[: missing - 1]} {ANSWER_MARK}"
    return respond("200 OK", orjson.dumps(answer))


@lru_cache(maxsize=256)
def stream_writes(model: str, usage: bool) -> tuple[bytes, ...]:
    """Every write of one stream: the pieces of content, the finish, usage if asked, the end."""
    shell = {
        "id": "chatcmpl-fastupstream00000000000000",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "system_fingerprint": "fp_fast",
    }

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        data = b"data: " + orjson.dumps({**shell, "choices": choices, **more}) + b"\n\n"
        return f"{len(data):x}\r\n".encode() + data + b"\r\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks, _ = stream_shape(model)
    first = head + event(choice({"role": "assistant", "content": "word"}))
    # Words vary: LiteLLM ends a stream that repeats one chunk a hundred times.
    writes = [first, *(event(choice({"content": f" word{n % 10}"})) for n in range(1, chunks))]
    writes.append(event(choice({}, "stop")))
    if usage:
        tokens = {"prompt_tokens": 62, "completion_tokens": chunks, "total_tokens": 62 + chunks}
        writes.append(event([], usage=tokens))
    writes.append(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    return tuple(writes)


MODELS = respond(
    "200 OK",
    orjson.dumps(
        {
            "object": "list",
            "data": [
                {"id": model, "object": "model", "created": _CREATED, "owned_by": "benchmark"}
                for model in MODEL_IDS
            ],
        }
    ),
)


def answer(line: bytes, body: bytes) -> bytes | tuple[tuple[bytes, ...], float]:
    """The answer to one request: whole, or the writes of a stream and their pace in seconds."""
    method, _, rest = line.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path.endswith(b"/models") and method == b"GET":
        return MODELS
    if not path.endswith(b"/chat/completions"):
        return refuse("404 Not Found", "Unknown path.")
    if method != b"POST":
        return refuse("405 Method Not Allowed", "Use POST.")
    try:
        request = orjson.loads(body)
        model, stream = request["model"], request.get("stream")
        options = request.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        if not isinstance(model, str):
            raise TypeError(model)
    except (ValueError, KeyError, TypeError, AttributeError):
        return refuse("400 Bad Request", "The body is not a chat completion request.")
    if stream:
        return stream_writes(model, usage), stream_shape(model)[1]
    return completion(model)


class Connection(asyncio.Protocol):
    """One client: requests are served in order, pipelined ones wait their turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        self._buffer = bytearray()
        self._needed = 0  # bytes that must be in the buffer before another look is worth it
        self._line = b""
        self._decoder: ChunkedDecoder | None = None
        self._payload: list[bytes] = []
        self._writes: tuple[bytes, ...] = ()
        self._written = 0
        self._pace = 0.0
        self._due = 0.0
        self._next: asyncio.Handle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop sets TCP_NODELAY

    def connection_lost(self, _error: Exception | None) -> None:
        if self._next:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        if self._decoder and not self._writes:
            self._continue_chunked(data)
            return
        self._buffer += data
        if len(self._buffer) >= self._needed:
            self._serve()

    def _serve(self) -> None:
        """Answers every whole request in the buffer, until one of them is a stream."""
        while self._buffer and not self._writes:
            buffer = self._buffer
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                if len(buffer) > _LONGEST_HEAD:
                    self._give_up(refuse("431 Request Header Fields Too Large", "Too long."))
                return
            head = bytes(buffer[:head_end]).lower()
            length = _LENGTH.search(head)
            line = bytes(buffer[: buffer.find(b"\r\n")])
            body_at = head_end + 4
            end = body_at + (int(length[1]) if length else 0)
            chunked = not length and _CHUNKED.search(head)
            if len(buffer) < end or chunked:
                if b"\r\nexpect: 100-continue" in head and len(buffer) == body_at:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if chunked:
                    rest = bytes(buffer[body_at:])
                    self._buffer.clear()
                    self._line, self._payload, self._decoder = line, [], ChunkedDecoder()
                    self._continue_chunked(rest)
                else:
                    self._needed = end
                return
            body = bytes(buffer[body_at:end])
            del buffer[:end]
            self._needed = 0
            self._answer(line, body)

    def _continue_chunked(self, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            return
        try:
            self._payload.append(decoder.feed(data))
        except MalformedChunk:
            self._give_up(refuse("400 Bad Request", "Malformed chunked body."))
            return
        if not decoder.done:
            return
        self._decoder = None
        self._buffer += decoder.rest
        self._answer(self._line, b"".join(self._payload))
        if self._buffer:
            self._serve()

    def _answer(self, line: bytes, body: bytes) -> None:
        reply = answer(line, body)
        if isinstance(reply, bytes):
            self._transport.write(reply)
            return
        self._writes, self._pace = reply
        self._written, self._due = 0, self._loop.time()
        self._stream()

    def _stream(self) -> None:
        """Writes one chunk, and sees to it that the next follows at its pace."""
        self._next = None
        if self._paused:
            return
        self._transport.write(self._writes[self._written])
        self._written += 1
        if self._written == len(self._writes):
            self._writes = ()
            self._serve()
        elif self._pace:
            self._due += self._pace
            self._next = self._loop.call_at(self._due, self._stream)
        else:
            self._next = self._loop.call_soon(self._stream)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writes and not self._next:
            self._stream()

    def _give_up(self, reply: bytes) -> None:
        self._buffer.clear()
        self._transport.write(reply)
        self._transport.close()


async def serve(host: str, port: int) -> asyncio.Server:
    """Listens; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(Connection, host, port, backlog=1024)


async def _main(host: str, port: int) -> None:
    server = await serve(host, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    arguments = parser.parse_args()
    uvloop.run(_main(arguments.host, arguments.port))
