"""Serving the scripted upstream: on a socket that is open already, in this process."""

from __future__ import annotations

import socket

import uvicorn

from app.simulated.connection import Protocol
from app.simulated.server import SimulatedAPI

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on a port, 0 for a free one; clients can connect from here on, and wait."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def server_for(api: SimulatedAPI) -> uvicorn.Server:
    """A quiet server; the caller runs it with the sockets it opened."""
    config = uvicorn.Config(
        api,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="uvloop",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
