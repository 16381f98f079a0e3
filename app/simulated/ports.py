"""Ports at which connecting itself goes wrong: what no answer to a request can show.

Opened when first asked for, and kept until the server is closed. Served by threads: a handshake
that fails would be in the way of the event loop's end.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

_HOST = "127.0.0.1"
_CERTIFICATE = Path(__file__).with_name("wrong_host.pem")
_NOT_HTTP = b"220 mail.invalid ESMTP ready\r\n"
_QUEUED = 8
"""Connections that certainly fill a queue made for one."""
_KEPT = 64
_HANDSHAKE_SECONDS = 5.0


class Ports:
    """One port a fault: `refused`, `unreachable` (a full queue: connecting never ends),
    `silent`, `not_http`, `tls_broken` (no handshake) and `wrong_certificate` (self-signed, and
    for another host)."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}
        self._sockets: list[socket.socket] = []

    def opened(self) -> dict[str, int]:
        """The ports by fault."""
        if not self._ports:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_CERTIFICATE)
            self._ports = {
                "refused": _port(self._bound()),
                "unreachable": self._full(),
                "silent": self._served(),
                "not_http": self._served(greeting=_NOT_HTTP),
                "tls_broken": self._served(greeting=_NOT_HTTP),
                "wrong_certificate": self._served(tls=context),
            }
        return self._ports

    def close(self) -> None:
        for sock in self._sockets:
            with suppress(OSError):  # what never listened has nothing to shut down
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            sock.close()

    def _bound(self) -> socket.socket:
        """Taken and not listened at: connecting is refused, and nobody else can take it."""
        sock = socket.socket()
        sock.bind((_HOST, 0))
        self._sockets.append(sock)
        return sock

    def _full(self) -> int:
        sock = self._bound()
        sock.listen(0)
        for _ in range(_QUEUED):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
            self._sockets.append(waiting)
        return _port(sock)

    def _served(self, greeting: bytes = b"", tls: ssl.SSLContext | None = None) -> int:
        sock = self._bound()
        sock.listen()
        threading.Thread(target=_serve, args=(sock, greeting, tls), daemon=True).start()
        return _port(sock)


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def _serve(sock: socket.socket, greeting: bytes, tls: ssl.SSLContext | None) -> None:
    """Accept, greet, and say nothing more, until the port is closed."""
    kept: deque[socket.socket] = deque()
    with suppress(OSError):
        while True:
            one, _ = sock.accept()
            kept.append(_greeted(one, greeting, tls))
            if len(kept) > _KEPT:
                kept.popleft().close()
    for one in kept:
        one.close()


def _greeted(one: socket.socket, greeting: bytes, tls: ssl.SSLContext | None) -> socket.socket:
    one.settimeout(_HANDSHAKE_SECONDS)
    # Who reads the certificate should leave.
    with suppress(OSError):
        if tls is not None:
            one = tls.wrap_socket(one, server_side=True)
        if greeting:
            one.sendall(greeting)
    return one
