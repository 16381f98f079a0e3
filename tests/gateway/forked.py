"""Gateways that start at once: what takes a second, importing, was done before the fork.

Run as a script. Each line on standard input is `CONFIG PORT`; a gateway of that configuration is
started on that port as a process of its own, whose id is the answer on standard output.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import uvicorn

import app.accounting.bookkeeping
from app.assembly import application
from app.config.load import load


def serve(config: str, port: int) -> None:
    uvicorn.run(
        application(load(Path(config))),
        port=port,
        loop="uvloop",
        http="app.api.protocol:BoundedProtocol",
        log_level="warning",
        access_log=False,
    )


def main() -> None:
    # Nobody waits for the children, which are killed.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert app.accounting.bookkeeping
    for line in sys.stdin:
        config, port = line.split()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.stdin.close()
            serve(config, int(port))
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
