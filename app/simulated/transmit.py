"""How an answer goes out: in its own time, and with the faults that were ordered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from app.simulated.behaviour import Behaviour
from app.simulated.bodies import endless_body, pieces_of
from app.simulated.connection import Connection, Gone
from app.simulated.log import Exchange

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"
_HEADER_LINE = b"x-simulated-filler: " + b"x" * 1000 + b"\r\n"


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
    headers = _headers(outgoing, behaviour)
    if behaviour.cut_before_head:
        await _break_off(behaviour, connection)
    elif behaviour.cut_head_after_bytes is not None:
        await connection.write_raw(_raw_head(headers)[: behaviour.cut_head_after_bytes])
        await _break_off(behaviour, connection)
    elif behaviour.endless == "head":
        await connection.write_raw(_raw_head(headers))
        while True:
            await connection.write_raw(_HEADER_LINE)
    elif behaviour.bad_framing:
        chunked = [*headers, (b"transfer-encoding", b"chunked")]
        await connection.write_raw(_raw_head(chunked) + b"\r\nnonsense\r\n" + outgoing.pieces[0])
        await connection.wait(None)
    else:
        await connection.start(outgoing.status, headers)
        await connection.wait(behaviour.first_byte_delay_seconds)
        await _send_body(outgoing, behaviour, connection, exchange)


async def _send_body(
    outgoing: Outgoing, behaviour: Behaviour, connection: Connection, exchange: Exchange
) -> None:
    between = behaviour.chunk_delay_seconds
    between = outgoing.piece_seconds if between is None else between
    if behaviour.endless in ("body", "event") or behaviour.gzip_bomb_bytes:
        between = 0.0
    place = 0
    for place, piece in enumerate(_body(outgoing, behaviour)):
        if place:
            await connection.wait(between)
        if await _stops(place, behaviour, connection):
            return
        if await _cut(piece, behaviour, connection, exchange):
            return
        await _write(piece, behaviour, connection)
        exchange.events_sent += 1
    if await _stops(place + 1, behaviour, connection):
        return
    await connection.write(b"", more=False)


def _body(outgoing: Outgoing, behaviour: Behaviour) -> Iterator[bytes]:
    if behaviour.endless and (outgoing.stream or behaviour.endless == "body"):
        return endless_body(outgoing.pieces, behaviour.endless)
    pieces = outgoing.pieces[: behaviour.end_after_chunks]
    return pieces_of(
        pieces, gzip=behaviour.gzip, bomb=behaviour.gzip_bomb_bytes, stream=outgoing.stream
    )


async def _stops(place: int, behaviour: Behaviour, connection: Connection) -> bool:
    """Whether it was ordered to break off, or to fall silent, before this event."""
    if place == behaviour.stall_after_chunks:
        await connection.wait(None)
    if place == behaviour.cut_after_chunks:
        await _break_off(behaviour, connection)
        return True
    return False


async def _cut(
    piece: bytes, behaviour: Behaviour, connection: Connection, exchange: Exchange
) -> bool:
    """Send the part of this piece that comes before the ordered cut, or silence, and stop there."""
    cut, stall = behaviour.cut_after_bytes, behaviour.stall_after_bytes
    end = stall if cut is None else cut
    if end is None:
        return False
    left = end - exchange.bytes_sent
    if left >= len(piece):
        return False
    if left:
        await connection.write(piece[:left])
    if cut is None:
        await connection.wait(None)
    await _break_off(behaviour, connection)
    return True


async def _write(piece: bytes, behaviour: Behaviour, connection: Connection) -> None:
    size = behaviour.drip_bytes
    if size is None:
        await connection.write(piece)
        return
    for start in range(0, len(piece), size):
        await connection.wait(behaviour.drip_seconds)
        await connection.write(piece[start : start + size])


async def _break_off(behaviour: Behaviour, connection: Connection) -> None:
    if behaviour.closes:
        await connection.close()
    else:
        await connection.reset()


def _raw_head(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A head without the empty line that would end it."""
    lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in headers)]
    return b"".join(line + b"\r\n" for line in lines)


def _headers(outgoing: Outgoing, behaviour: Behaviour) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-type": behaviour.content_type or outgoing.content_type,
        "x-simulated": "true",
        **outgoing.headers,
    }
    compressed = behaviour.gzip or behaviour.gzip_bomb_bytes
    if compressed:
        headers["content-encoding"] = "gzip"
    without_end = behaviour.endless == "body"
    if not (outgoing.stream or compressed or without_end or behaviour.bad_framing):
        headers["content-length"] = str(sum(map(len, outgoing.pieces)))
    headers |= {name.lower(): value for name, value in behaviour.headers.items()}
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    filler = behaviour.head_bytes // len(_HEADER_LINE)
    return [*lines, *[(b"x-simulated-filler-%d" % i, b"x" * 1000) for i in range(filler)]]
