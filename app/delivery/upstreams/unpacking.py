"""Bodies that come compressed although that was not asked for, inflated a piece at a time: a few
bytes may stand for gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 1024 * 1024
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class BadlyPacked(Exception):
    """Not what its header says, or packed in a way that is not known here."""


def unpacking(encoding: str) -> Inflating:
    """For a `content-encoding`. Raises BadlyPacked."""
    match encoding.strip().lower():
        case "gzip" | "x-gzip":
            return Inflating(_GZIP)
        case "deflate":
            return Inflating(_ZLIB)
    raise BadlyPacked


class Inflating:
    """One body."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What some bytes stand for, none of it empty. Raises BadlyPacked."""
        if not self._begun and data:
            self._begun = True
            # Some send deflate without the frame that the standard asks for.
            if self._bits == _ZLIB and data[0] & 0x0F != 8:
                self._inflate = zlib.decompressobj(_RAW)
        held = False
        while data or held:
            if self._inflate.eof:
                if self._bits != _GZIP:
                    return
                self._inflate = zlib.decompressobj(_GZIP)  # gzip may go on with another member
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise BadlyPacked from None
            if piece:
                yield piece
            # A full piece may leave something within, though all of the input is used up.
            held = len(piece) == PIECE_BYTES and not self._inflate.eof
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def end(self) -> None:
        """Nothing more comes. Raises BadlyPacked if it was not all."""
        if self._begun and not self._inflate.eof:
            raise BadlyPacked
