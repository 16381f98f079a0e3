"""The tester's side of a running upstream: programme it, and read what it received."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Any

import orjson

_POLL_SECONDS = 0.005


class Control:
    """Blocking calls to the `/script`, `/ports` and `/log` doors. OSError if nobody is there."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its `base_url`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    def script(self, model: str = "*", times: int | None = 1, **behaviour: Any) -> None:
        """Let the next requests to a model be answered so; `times=None` for all of them."""
        entry = {"model": model, "behaviour": behaviour, "times": times}
        self._call("POST", "/script", orjson.dumps(entry))

    def clear(self) -> None:
        """Forget the script and the log."""
        self._call("DELETE", "/script")
        self._call("DELETE", "/log")

    def ports(self) -> dict[str, int]:
        """Ports beside the server's own at which connecting itself goes wrong, by fault."""
        ports: dict[str, int] = self._call("GET", "/ports")
        return ports

    def log(self, last: int = 100) -> list[dict[str, Any]]:
        """The last chat requests, oldest first."""
        exchanges: list[dict[str, Any]] = self._call("GET", f"/log?last={last}")
        return exchanges

    def wait_for(
        self, holds: Callable[[dict[str, Any]], bool], timeout_seconds: float = 5.0
    ) -> dict[str, Any]:
        """The first logged exchange for which a predicate holds; TimeoutError after a while."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            for exchange in self.log():
                if holds(exchange):
                    return exchange
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"no such exchange within {timeout_seconds} s; log: {self.log()}")

    def healthy(self, timeout_seconds: float = 10.0) -> bool:
        """Whether the upstream answers."""
        answer: dict[str, Any] = self._call("GET", "/healthz", timeout_seconds=timeout_seconds)
        return bool(answer["status"] == "ok")

    def _call(
        self, method: str, path: str, body: bytes | None = None, timeout_seconds: float = 10.0
    ) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = orjson.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer
