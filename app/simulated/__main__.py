"""The child of `app.simulated.process`: serves the socket that it inherits."""

from __future__ import annotations

import os
import socket
import sys
import threading

from app.simulated.server import SimulatedAPI
from app.simulated.serving import server_for

STANDARD_INPUT = 0


def leave_with_parent() -> None:
    """End this process when its standard input does: the parent holds the other end."""
    while os.read(STANDARD_INPUT, 1024):
        pass
    os._exit(0)


def main(descriptor: int, strict_models: bool) -> None:
    threading.Thread(target=leave_with_parent, daemon=True).start()
    listening = socket.socket(fileno=descriptor)
    server_for(SimulatedAPI(strict_models=strict_models)).run(sockets=[listening])


if __name__ == "__main__":
    main(int(sys.argv[1]), strict_models="--strict-models" in sys.argv[2:])
