"""Bodies that are more than they seem: compressed, inflating to far more, or without an end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_FILLER = b"x" * (1024 * 1024)
_BLOCK = b" " * (64 * 1024)
_BOMB_HEAD = (
    b'{"id":"chatcmpl-bomb","object":"chat.completion","created":1,"model":"bomb",'
    b'"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"'
)
_BOMB_TAIL = b'"}}]}'


def pieces_of(pieces: list[bytes], *, gzip: bool, bomb: int, stream: bool) -> Iterator[bytes]:
    """The pieces as they are, or compressed; of a bomb, its text in their place."""
    if not (gzip or bomb):
        return iter(pieces)
    return _compressed(_bomb(bomb, stream=stream) if bomb else iter(pieces))


def endless_body(pieces: list[bytes], kind: str) -> Iterator[bytes]:
    """`body`: only blanks, which JSON and events may begin with, so that it can't be told from a
    slow good one. Of a stream: the first pieces, and then one `event`, or `chunks` with text."""
    if kind != "body":
        yield from pieces[:2]
    if kind == "event":
        yield b'data: {"choices":[{"index":0,"delta":{"content":"'
    more = pieces[1] if kind == "chunks" else _BLOCK
    while True:
        yield more


def _bomb(size: int, *, stream: bool) -> Iterator[bytes]:
    yield (b"data: " if stream else b"") + _BOMB_HEAD
    for _ in range(size // len(_FILLER)):
        yield _FILLER
    yield _BOMB_TAIL + (b"\n\n" if stream else b"")


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip file. A full flush after each piece forgets what came before, so that a piece that
    comes again is compressed once: a bomb would cost whom it does not aim at."""
    yield _GZIP_HEAD
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    check, size, last, packed = 0, 0, None, b""
    for piece in pieces:
        if piece is not last:
            packed = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
            last = piece
        check, size = zlib.crc32(piece, check), size + len(piece)
        yield packed
    yield packer.flush() + struct.pack("<II", check, size % (1 << 32))
