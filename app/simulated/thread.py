"""The scripted upstream in a thread of this process, for tests that need no second process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.simulated.control import Control
from app.simulated.server import SimulatedAPI
from app.simulated.serving import open_socket, server_for


@contextmanager
def simulated_in_thread(
    host: str = "127.0.0.1", port: int = 0, *, strict_models: bool = False
) -> Iterator[Control]:
    """Serve on a free port within the block."""
    listening = open_socket(host, port)
    api = SimulatedAPI(strict_models=strict_models)
    server = server_for(api)
    control = Control(host, listening.getsockname()[1])
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        control.healthy()
        yield control
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        api.close()
