"""A gateway with limits, and many clients at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import httpx2

from tests.gateway.conftest import MODELS, Gateway

CONFIG = (
    """
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    timeouts: {{first_byte_seconds: WAIT, idle_seconds: WAIT, total_seconds: 60}}
models:"""
    + MODELS
    + """
routes:
  auto:
    candidates: [small, medium, large]
    baseline: large
    router: null
    objective: {{kind: quality, keep: 0.5}}
    limits: {{LIMITS}}
"""
)
"""`auto` takes `small`: $0.10 per million tokens of input, $0.40 of output."""


def plain(max_tokens: int, *, stream: bool = False) -> bytes:
    """A chat request."""
    return (
        b'{"model":"auto","max_tokens":%d,"stream":%s,'
        b'"messages":[{"role":"user","content":"Hello"}]}'
    ) % (max_tokens, b"true" if stream else b"false")


def limited(limits: str, purpose: str = "", more: str = "", patience: float = 20) -> str:
    """The configuration with these limits of its route. One text is served by one gateway a
    session: a purpose makes another."""
    text = CONFIG.replace("LIMITS", limits).replace("WAIT", str(patience))
    return text + more + f"\n# {purpose}\n"


def most_usd(max_tokens: int, *, stream: bool = False) -> float:
    """What `plain` may cost at most, in dollars: its bytes, and `max_tokens`, at `small`."""
    return len(plain(max_tokens, stream=stream)) * 0.1e-6 + max_tokens * 0.4e-6


async def ask_many(
    served: Gateway, number: int, content: bytes, headers: Mapping[str, str] | None = None
) -> list[httpx2.Response]:
    """The same request that often at once."""
    limits = httpx2.Limits(max_connections=number)
    async with httpx2.AsyncClient(
        base_url=served.url, timeout=30, limits=limits, headers=headers
    ) as http:
        asking = (http.post("/v1/chat/completions", content=content) for _ in range(number))
        return await asyncio.gather(*asking)


def costs(answers: Iterable[httpx2.Response]) -> float:
    """In dollars."""
    return sum(float(answer.headers["x-pointsman-cost-usd"]) for answer in answers)
