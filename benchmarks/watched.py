"""The gateway's own command line, in a process that can be looked into from outside.

    python -m benchmarks.watched SOCKET serve --config FILE

Memory and descriptors are the kernel's to tell, but tasks are not. Whoever connects to the Unix
socket is told how many asyncio tasks there are and how many objects the collector knows, and with
`POINTSMAN_TRACEMALLOC` set which lines hold the most memory. A thread of its own answers, so that
nothing is added to the event loop that is watched.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import tracemalloc
from collections import Counter
from typing import Any

import orjson

from app.cli import main

_LINES = 40


def look() -> dict[str, Any]:
    """Tasks that are not done, tracked objects, and the commonest kinds of them."""
    objects = gc.get_objects()
    told: dict[str, Any] = {
        "tasks": sum(isinstance(one, asyncio.Task) and not one.done() for one in objects),
        "objects": len(objects),
        "kinds": Counter(type(one).__qualname__ for one in objects).most_common(_LINES),
    }
    del objects
    if tracemalloc.is_tracing():
        lines = tracemalloc.take_snapshot().statistics("lineno")[:_LINES]
        told["lines"] = [[str(line.traceback), line.size, line.count] for line in lines]
    return told


def answer(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(orjson.dumps(look()))


def ask(path: str, timeout_seconds: float = 10.0) -> dict[str, Any]:
    """What the process behind a socket tells. OSError if it is not there."""
    parts = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        connection.connect(path)
        while part := connection.recv(65_536):
            parts.append(part)
    told: dict[str, Any] = orjson.loads(b"".join(parts))
    return told


def listen(path: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    threading.Thread(target=answer, args=(listening,), daemon=True).start()


if __name__ == "__main__":
    if os.environ.get("POINTSMAN_TRACEMALLOC"):
        tracemalloc.start()
    listen(sys.argv[1])
    main(args=sys.argv[2:], prog_name="pointsman")
