"""A stream cut anywhere gives the same events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedReply
from app.wire import sse

STREAM = b'data: {"a":1}\n\n: comment\n\ndata: {"b":"\\n"}\r\n\r\ndata: [DONE]\n\n'


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    buffer = sse.EventBuffer()
    blocks = [buffer.feed(STREAM[a:b]) for a, b in itertools.pairwise(edges)]
    assert b"".join(blocks) == STREAM
    assert buffer.tail == b""
    assert all(block == b"" or block.endswith((b"\n\n", b"\r\n\r\n")) for block in blocks)
    events = [event for block in blocks for event in sse.split(block)]
    assert [sse.data_of(event) for event in events] == [
        b'{"a":1}',
        b"",
        b'{"b":"\\n"}',
        b"[DONE]",
    ]


def test_data_over_several_lines_is_joined() -> None:
    assert sse.data_of(b"event: x\ndata:one\ndata: two\n\n") == b"one\ntwo"


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    buffer = sse.EventBuffer()
    buffer.feed(b"data: " + b"x" * 90)
    with pytest.raises(MalformedReply):
        buffer.feed(b"x" * 10)


def test_a_boundary_may_be_torn_anywhere() -> None:
    for event in (b"data: x\n\n", b"data: x\r\n\r\n"):
        buffer = sse.EventBuffer()
        blocks = [buffer.feed(bytes([byte])) for byte in event]
        assert blocks == [b""] * (len(event) - 1) + [event]


class Counted(bytes):
    """Counts how much of itself is copied when it is joined or added to."""

    copied = 0

    def __radd__(self, other: bytes) -> bytes:
        Counted.copied += len(other)
        return bytes(other) + bytes(self)


def test_an_event_that_comes_in_many_pieces_is_not_copied_at_each() -> None:
    """A drip of a large event would cost its square in time."""
    buffer = sse.EventBuffer()
    for _ in range(2000):
        assert buffer.feed(Counted(b"x" * 100)) == b""
    assert Counted.copied < 2000 * 100
    assert len(buffer.feed(b"\n\n")) == 2000 * 100 + 2
