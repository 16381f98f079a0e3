"""A cache whose time and vectors are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.accounting.caller import ANONYMOUS, Caller
from app.catalog.model import Model
from app.config.caching import Cache
from app.delivery.cache.answers import AnswerCache, Place
from app.delivery.cache.memory import Memory
from app.delivery.cache.nearest import Nearest
from app.delivery.cache.replay import Hit
from app.delivery.cache.shared import SharedAnswers
from app.delivery.cache.terms import Terms
from app.exchange.record import Record
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.routing.encoder.embedder import Embedder
from app.wire import openai_chat

MODEL = Model("small", "u", "s", None)
OTHER = Model("other", "u", "o", None)
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","model":"small","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"TEXT"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)


class AngleEncoder:
    """A text's vector has the angle that its last word says, in hundredths; it counts its runs."""

    fingerprint = "angles"
    dimensions = 2

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        angles = [len(text.split()[-1]) / 100 for text in texts]
        return np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)


class World:
    """One gateway's cache, and what it is asked."""

    def __init__(self, shared: SharedAnswers | None = None, **written: Any) -> None:
        self.now = 1_000.0
        self.encoder = AngleEncoder()
        self.embedder = Embedder(self.encoder)
        terms = {"small": Terms.compile(Cache(**written), "small", (MODEL,))}
        nearest = Nearest(100)
        memory = Memory(100, 10**6)
        self.cache = AnswerCache(
            terms, memory, self.embedder, shared, nearest, clock=lambda: self.now
        )
        self.record = Record("r", 0, 0)

    async def look(
        self, text: str = "Hello", control: str | None = None, caller: Caller = ANONYMOUS,
        target: Model = MODEL, tool_results: int = 0, **fields: Any,
    ) -> Hit | Place | None:  # fmt: skip
        self.record = Record("r", 0, 0)
        request = asking(text, control, **fields)
        return await self.cache.look(request, target, tool_results, caller, self.record)

    async def ask(self, text: str = "Hello", **more: Any) -> str:
        """Ask, and where nothing is found let the model say "TEXT" in the text's place."""
        found = await self.look(text, **more)
        if isinstance(found, Place):
            self.record.model, self.record.usage = "small", Usage(3, 2)
            found.keep("whole", ANSWER.replace(b"TEXT", text.encode()), self.record)
            await self.cache.close()
        assert self.record.cache is not None
        result = self.record.cache.result
        if isinstance(found, Hit):
            said = orjson.loads(found.body)["choices"][0]["message"]["content"]
            return f"{result} {self.record.cache.reason}: {said}"
        return result


def asking(text: str, control: str | None = None, **fields: Any) -> Request:
    body = {"model": "small", "messages": [{"role": "user", "content": text}], **fields}
    return openai_chat.parse(
        orjson.dumps({"temperature": 0, **body}),
        request_id="r", started=0, received=0, max_images=0, cache_control=control,
    )  # fmt: skip
