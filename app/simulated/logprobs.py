"""Log probabilities that add up to nothing real, in the shape in which real ones come."""

from __future__ import annotations

from typing import Any
from zlib import crc32


def logprobs_of(tokens: list[str], top_logprobs: int | None) -> dict[str, Any] | None:
    """The `logprobs` of a choice or a delta; None when the request did not ask for them."""
    if top_logprobs is None:
        return None
    return {"content": [_token(token, top_logprobs) for token in tokens], "refusal": None}


def _token(token: str, alternatives: int) -> dict[str, Any]:
    own = _entry(token, _made_up(token))
    others = [f"{token}{place}" for place in range(1, alternatives)]
    top = [own, *(_entry(other, own["logprob"] - len(other)) for other in others)]
    return {**own, "top_logprobs": top[:alternatives]}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _made_up(token: str) -> float:
    return -(crc32(token.encode()) % 1000) / 1000
