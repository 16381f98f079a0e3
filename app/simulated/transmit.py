"""How an answer goes out: in its own time, and with the faults that were ordered."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.simulated.behaviour import Behaviour
from app.simulated.connection import Connection, Gone
from app.simulated.log import Exchange

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A composed answer on the wire: a stream has many pieces, a plain answer one."""

    pieces: list[bytes]
    content_type: str = JSON
    status: int = 200
    head_seconds: float = 0.0
    piece_seconds: float = 0.0
    stream: bool = False
    headers: dict[str, str] = field(default_factory=dict)


async def transmit(
    outgoing: Outgoing, behaviour: Behaviour, connection: Connection, exchange: Exchange
) -> None:
    """Send it all, or as much as the behaviour and the client allow."""
    try:
        await _transmit(outgoing, behaviour, connection, exchange)
    except Gone:
        pass
    finally:
        connection.finish()


async def _transmit(
    outgoing: Outgoing, behaviour: Behaviour, connection: Connection, exchange: Exchange
) -> None:
    delay = behaviour.delay_seconds
    await connection.wait(outgoing.head_seconds if delay is None else delay)
    if behaviour.cut_before_head:
        await connection.reset()
        return
    await connection.start(outgoing.status, _headers(outgoing, behaviour))
    await connection.wait(behaviour.first_byte_delay_seconds)
    between = behaviour.chunk_delay_seconds
    between = outgoing.piece_seconds if between is None else between
    for place, piece in enumerate(outgoing.pieces):
        if place:
            await connection.wait(between)
        if place == behaviour.stall_after_chunks:
            await connection.wait(None)
        if place == behaviour.cut_after_chunks:
            await connection.reset()
            return
        if await _cut(piece, behaviour, connection, exchange):
            return
        await connection.write(piece)
        exchange.events_sent += 1
    await _end(len(outgoing.pieces), behaviour, connection)


async def _cut(
    piece: bytes, behaviour: Behaviour, connection: Connection, exchange: Exchange
) -> bool:
    """Send the part of this piece that comes before the ordered cut, and cut there."""
    if behaviour.cut_after_bytes is None:
        return False
    left = behaviour.cut_after_bytes - exchange.bytes_sent
    if left >= len(piece):
        return False
    if left:
        await connection.write(piece[:left])
    await connection.reset()
    return True


async def _end(pieces: int, behaviour: Behaviour, connection: Connection) -> None:
    if behaviour.stall_after_chunks == pieces:
        await connection.wait(None)
    if behaviour.cut_after_chunks == pieces:
        await connection.reset()
        return
    await connection.write(b"", more=False)


def _headers(outgoing: Outgoing, behaviour: Behaviour) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-type": behaviour.content_type or outgoing.content_type,
        "x-simulated": "true",
        **outgoing.headers,
    }
    if not outgoing.stream:
        headers["content-length"] = str(sum(map(len, outgoing.pieces)))
    headers |= {name.lower(): value for name, value in behaviour.headers.items()}
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
