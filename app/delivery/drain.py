"""How a process ends, as requests meet it: not ready from the first word on, and cut off when the
time that was given has passed.

The server says when; nothing here runs by itself. Cutting off is cancelling: once `over` is set, a
cancelled request is answered or told of by an error event, and booked like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import GatewayStopping


@dataclass(slots=True)
class Drain:
    """`delay_seconds` is how long new connections are still served, for whoever sends traffic here
    to notice; `timeout_seconds` how long after that what runs may take to end."""

    delay_seconds: float = 0.0
    timeout_seconds: float = 30.0
    draining: bool = False
    over: bool = False


def stopping() -> GatewayStopping:
    """What is told to who is cut off."""
    return GatewayStopping("The gateway is stopping, and this request outlasted the time to end.")
