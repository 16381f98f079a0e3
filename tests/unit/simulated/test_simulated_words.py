from hypothesis import given
from hypothesis import strategies as st

from app.simulated.words import count_tokens, cut_into, filler, tokens_of


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens_of(text)) == text


@given(st.text(min_size=1), st.integers(1, 50))
def test_cutting_keeps_the_text_and_never_makes_empty_pieces(text: str, parts: int) -> None:
    pieces = cut_into(tokens_of(text), parts)
    assert "".join(pieces) == text
    assert len(pieces) == min(parts, len(text))
    assert all(pieces)


def test_nothing_is_cut_into_nothing() -> None:
    assert cut_into([], 3) == []


def test_tokens_are_counted_in_bytes() -> None:
    assert count_tokens("") == 0
    assert count_tokens("abcd") == 1
    assert count_tokens("abcde") == 2
    assert count_tokens("日本") == 2


def test_filler_says_what_it_is_and_is_the_same_again() -> None:
    text = filler("sim-small", "What is\nthe time?", 20, seed=7)
    assert text.startswith(
        '[simulated sim-small] This stands in for an answer to "What is the time?"'
    )
    assert text == filler("sim-small", "What is\nthe time?", 20, seed=7)
    assert text != filler("sim-small", "What is\nthe time?", 20, seed=8)
