"""However the bytes are cut on their way, the payload is the same."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chunked import ChunkedDecoder, MalformedChunk


def encoded(chunks: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    lines = (b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return b"".join(lines) + b"0\r\n" + trailers + b"\r\n"


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40)),
    cuts=st.lists(st.integers(0, 400)),
    rest=st.binary(max_size=10),
    extension=st.sampled_from([b"", b";name=value"]),
    trailers=st.sampled_from([b"", b"x-sum: 1\r\n"]),
)
def test_the_payload_is_what_was_sent(
    chunks: list[bytes], cuts: list[int], rest: bytes, extension: bytes, trailers: bytes
) -> None:
    wire = encoded(chunks, extension, trailers)
    places = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    decoder = ChunkedDecoder()
    payload = b""
    for start, end in pairwise(places):
        assert not decoder.done
        payload += decoder.feed(wire[start:end] + (rest if end == len(wire) else b""))
    assert decoder.done
    assert payload == b"".join(chunks)
    assert decoder.rest == rest


@pytest.mark.parametrize("line", [b"x\r\n", b"-5\r\n", b"\r\n", b"1" * 2000])
def test_a_wrong_size_line_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedChunk):
        ChunkedDecoder().feed(line)
