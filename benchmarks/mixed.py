"""Mixed traffic as a public gateway meets it: streams, clients that leave, errors, large bodies.

Endless, seeded, and the same for the same seed; each request says of what kind it is, so that what
came of it can be counted apart.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.asking import STAY, Leave
from benchmarks.exam import exam_prompts
from benchmarks.prompts import unique_prompts

ROUTE, GOING_ON, PINNED = "auto", "going-on", "medium"
"""Model names: a route, one whose streams go on elsewhere, and a model."""

_LARGE_KB = (50, 3_000)
_BLOB = "".join(itertools.islice(unique_prompts(1), 20_000)).encode()[: _LARGE_KB[1] * 1000]
_REPEATED = 32


@dataclass(frozen=True)
class Asked:
    """One request to send."""

    kind: str
    body: bytes
    leave: Leave = STAY
    key: str = "good"
    """Whose: a `good` key, a `narrow` one that is soon at its limit, or an `unknown` one."""


_SHARES = {
    "routed": 18, "routed stream": 14, "routed, seen before": 8, "conversation": 6,
    "stream that may go on": 4, "pinned": 14, "pinned stream": 12,
    "client leaves a stream": 8, "client leaves early": 3,
    "large question": 4, "large image": 1, "large answer": 1,
    "broken body": 2, "wrong field": 1, "unknown model": 1, "unknown key": 1, "over its limit": 2,
}  # fmt: skip


def mixed(seed: int) -> Iterator[Asked]:
    """Requests without end."""
    rng = random.Random(seed)
    prompts = exam_prompts(seed)
    seen = list(itertools.islice(exam_prompts(seed + 1), _REPEATED))
    kinds, weights = list(_SHARES), list(_SHARES.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield _asked(kind, rng, seen if kind == "routed, seen before" else None, prompts)


def fresh(seed: int) -> Iterator[bytes]:
    """Bodies of routed requests of which none comes twice, to fill what remembers."""
    return (_body(ROUTE, prompt) for prompt in exam_prompts(seed))


def _asked(kind: str, rng: random.Random, seen: list[str] | None, prompts: Iterator[str]) -> Asked:
    prompt = rng.choice(seen) if seen else next(prompts)
    match kind:
        case "routed" | "routed, seen before":
            return Asked(kind, _body(ROUTE, prompt))
        case "routed stream":
            return Asked(kind, _body(ROUTE, prompt, stream=True, **_paced(rng)))
        case "stream that may go on":
            return Asked(kind, _body(GOING_ON, prompt, stream=True, **_paced(rng)))
        case "conversation":
            return Asked(kind, _conversation(prompt, rng.randint(1, 6)))
        case "pinned":
            return Asked(kind, _body(PINNED, prompt))
        case "pinned stream":
            return Asked(kind, _body(PINNED, prompt, stream=True, **_paced(rng)))
        case "client leaves a stream":
            body = _body(rng.choice((ROUTE, PINNED)), prompt, stream=True, **_paced(rng, 200))
            return Asked(kind, body, Leave(pieces=rng.randint(1, 20)))
        case "client leaves early":
            body = _body(PINNED, prompt, x_simulate={"delay_seconds": 1.0})
            return Asked(kind, body, Leave(seconds=rng.uniform(0.05, 0.5)))
        case "large question":
            size = 1000 * rng.randint(*_LARGE_KB)
            return Asked(kind, _body(ROUTE, f"{prompt}\n{_BLOB[:size].decode()}"))
        case "large image":
            return Asked(kind, _image(prompt, 1000 * rng.randint(*_LARGE_KB)))
        case "large answer":
            answer = {"text": _BLOB[: 1000 * rng.randint(*_LARGE_KB) // 2].decode(), "chunks": 400}
            return Asked(kind, _body(PINNED, prompt, stream=rng.random() < 0.5, x_simulate=answer))
        case "broken body":
            return Asked(kind, _body(ROUTE, prompt)[: rng.randint(1, 100)])
        case "wrong field":
            return Asked(kind, _body(ROUTE, prompt, temperature="hot"))
        case "unknown model":
            return Asked(kind, _body("nobody", prompt))
        case "unknown key":
            return Asked(kind, _body(ROUTE, prompt), key="unknown")
        case _:
            return Asked(kind, _body(ROUTE, prompt), key="narrow")


def _body(model: str, prompt: str, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return orjson.dumps({"model": model, "messages": messages, "max_tokens": 4000, **fields})


def _paced(rng: random.Random, chunks: int = 40) -> dict[str, Any]:
    pace = rng.choice((0.0, 0.01, 0.05))
    return {"x_simulate": {"chunks": chunks, "chunk_delay_seconds": pace}}


def _conversation(prompt: str, turns: int) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    for _ in range(turns):
        messages += [
            {"role": "assistant", "content": "The second of them, as was said."},
            {"role": "user", "content": "And why not the first?"},
        ]
    return orjson.dumps({"model": ROUTE, "messages": messages})


def _image(prompt: str, size: int) -> bytes:
    """A request with an image of so many bytes as base64."""
    url = "data:image/png;base64," + "A" * size
    parts = [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return orjson.dumps({"model": ROUTE, "messages": [{"role": "user", "content": parts}]})
