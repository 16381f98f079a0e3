"""A request as it came in; the original body is kept so that each attempt can start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Request:
    """One chat request.

    `payload` is `body` parsed once; nobody changes either. `started` is on the monotonic clock.
    """

    id: str
    body: bytes
    payload: dict[str, Any]
    model: str
    stream: bool
    started: float
    debug: bool = False
    include_usage: bool = False
    """The client asked for the usage chunk of its stream itself."""
    forward_headers: Mapping[str, str] = field(default_factory=dict)
    """The few client headers that upstreams may see."""
