"""What checking a key costs a request: `python -m benchmarks.keys`.

In one process, warm, as the chat door does it: headers as a client library sends them, some
thousands of keys known. The yardstick is reading the same request's body of 50 tokens, which every
gateway must do; figures are medians of rounds that are interleaved.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, time

import orjson

from app.accounting.key_text import Hasher, new_id, new_text
from app.accounting.keyring import Key, Keyring, caller_of
from app.api.access import Access, nothing_new
from app.config import schema
from app.errors import KeyRefused
from app.wire import openai_chat

KEYS = 10_000
ROUNDS = 15
REQUESTS = 5_000
TARGET_SECONDS = 20e-6

HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 2.8.0"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"2.8.0"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-async", b"false"),
]
BODY = orjson.dumps(
    {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "You answer questions about invoices, briefly."},
            {"role": "user", "content": "Why was I charged twice in October, and for what? " * 4},
        ],
    }
)


def scope(key: str | None) -> dict[str, object]:
    headers = list(HEADERS)
    if key is not None:
        headers.insert(6, (b"authorization", b"Bearer " + key.encode()))
    return {"type": "http", "path": "/v1/chat/completions", "headers": headers}


async def seconds_each(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    for _ in range(REQUESTS):
        await work()
    return (perf_counter() - started) / REQUESTS


async def measure() -> dict[str, float]:
    """Median seconds of each kind of check, and of reading the body."""
    hasher = Hasher(b"secret of the benchmark")
    texts = {key_id: new_text(key_id) for key_id in (new_id() for _ in range(KEYS))}
    stored = {
        key_id: Key(caller_of(key_id, schema.KeyTerms()), hasher.digest(text.encode()))
        for key_id, text in texts.items()
    }
    first, second = list(texts)[:2]
    plain = stored[second]
    stored[second] = Key(plain.caller, plain.digest, time() + 86_400, None, b"x" * 32, time() + 9)
    keyring = Keyring(hasher, {}, "an admin key of the benchmark")
    keyring.take(stored)
    keyed, opened = Access(keyring, nothing_new), Access(Keyring(hasher, {}), nothing_new)

    async def refused() -> None:
        try:
            await keyed.caller(wrong)
        except KeyRefused:
            return
        raise AssertionError("a wrong key was let in")

    async def read() -> None:
        openai_chat.parse(BODY, request_id="x", started=0.0, received=0.0, max_images=100)

    none, valid, ends = scope(None), scope(texts[first]), scope(texts[second])
    wrong = scope(new_text(first))
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "reading the body": read,
        "no key is asked for": lambda: opened.caller(none),
        "a valid key": lambda: keyed.caller(valid),
        "a valid key that expires and was rotated": lambda: keyed.caller(ends),
        "a wrong key": refused,
    }
    rounds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, work in kinds.items():
            rounds[name].append(await seconds_each(work))
    return {name: statistics.median(measured) for name, measured in rounds.items()}


def main() -> int:
    found = asyncio.run(measure())
    yardstick = found["reading the body"]
    for name, seconds in found.items():
        print(
            f"{name:<42} {seconds * 1e6:6.2f} µs   {seconds / yardstick:5.2f} of reading the body"
        )
    slowest = max(found["a valid key"], found["a valid key that expires and was rotated"])
    met = slowest < TARGET_SECONDS
    print(f"target: a valid key under {TARGET_SECONDS * 1e6:.0f} µs: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
