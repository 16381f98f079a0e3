"""What is read of a prompt's words is the same in every process, bounded, and finite."""

import os
import subprocess
import sys
import zlib
from itertools import pairwise
from math import log, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing.estimators.words import (
    BITS,
    HEAD_CHARACTERS,
    SCALARS,
    TAIL_CHARACTERS,
    WordHasher,
    WordWeights,
    inverse_frequency,
    scalars,
)

CHOICE = (
    "How many of the 12 cars are NOT red, if 345 are?\n\n"
    "A. 10\n(b) None of the Above\nC) 1 + 2 = 3\nThe answer is _"
)


def named(text: str) -> dict[str, float]:
    return dict(zip(SCALARS, map(float, scalars(text)), strict=True))


def seen(text: str, *, characters: bool = False) -> set[int]:
    return {int(bucket) for bucket in WordHasher(characters=characters).buckets(text)[0]}


def mixed(number: int, factor: int) -> int:
    return (number * factor % 2**32) >> (32 - BITS)


def word(text: str) -> int:
    return mixed(zlib.crc32(text.encode()), 0x9E3779B1)


def pair(first: str, second: str) -> int:
    hashes = [zlib.crc32(text.encode()) for text in (first, second)]
    return mixed((hashes[0] * 0x85EBCA77 + hashes[1]) % 2**32, 0xC2B2AE3D)


def gram(four: bytes) -> int:
    return mixed(int.from_bytes(four, "little"), 0x27D4EB2F)


def test_words_digits_marks_and_their_pairs_by_hand() -> None:
    tokens = ["add", "4", "2", "!", "add", "_", "é"]
    expected = {word(token) for token in tokens} | {pair(*two) for two in pairwise(tokens)}
    assert seen("Add 42! ADD _É") == expected


def test_the_count_of_a_repeated_word_goes_in_as_a_logarithm() -> None:
    buckets, counts = WordHasher().buckets("go go go")
    found = dict(zip(buckets.tolist(), counts.tolist(), strict=True))
    assert found == pytest.approx({word("go"): 1 + log(3), pair("go", "go"): 1 + log(2)})
    assert buckets.dtype == np.int32
    assert counts.dtype == np.float32


def test_the_order_of_two_words_matters() -> None:
    assert seen("dog bites man") & seen("man bites dog") == {
        word(w) for w in ("dog", "bites", "man")
    }


def test_character_grams_know_the_edges_of_words() -> None:
    more = seen("Ab  cd", characters=True) - seen("Ab  cd")
    assert more == {gram(four) for four in (b" ab ", b"ab c", b"b cd", b" cd ")}


def test_characters_written_without_spaces_are_read_alone() -> None:
    assert {word("漢"), word("字"), word("か"), pair("漢", "字")} <= seen("漢字か")
    assert word("слово") in seen("Слово")


@pytest.mark.parametrize("characters", [False, True])
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_no_words_give_no_buckets(text: str, characters: bool) -> None:
    buckets, counts = WordHasher(characters=characters).buckets(text)
    assert buckets.shape == counts.shape == (0,)
    assert WordWeights(np.ones(2**BITS, dtype=np.float32)).row(buckets, counts).shape == (0,)


def test_another_process_gives_the_same() -> None:
    text = "Where is 'naïve' 漢字 42 😀?"
    script = (
        "import sys; from app.routing.estimators.words import WordHasher, scalars;"
        f"b, c = WordHasher(characters=True).buckets({text!r});"
        f"sys.stdout.write((b.tobytes() + c.tobytes() + scalars({text!r}).tobytes()).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    buckets, counts = WordHasher(characters=True).buckets(text)
    assert outputs == {(buckets.tobytes() + counts.tobytes() + scalars(text).tobytes()).hex()}


def test_of_a_long_text_both_ends_are_read() -> None:
    head, tail = "first " * (HEAD_CHARACTERS // 6), " last" * (TAIL_CHARACTERS // 5)
    text = head + "x" * HEAD_CHARACTERS + " middle " * 200_000 + tail
    found = seen(text)
    assert {word("first"), word("last")} <= found
    assert word("middle") not in found
    assert named(text)["characters"] == pytest.approx(log1p(len(text)))
    assert named(text)["words"] < log1p(HEAD_CHARACTERS + TAIL_CHARACTERS)


def test_the_cache_stays_bounded_and_changes_nothing() -> None:
    small, large = WordHasher(remembered=3), WordHasher()
    for text in ("a b c d e f", "f e d", "a a b", "y" * 500):
        assert small.buckets(text)[0].tolist() == large.buckets(text)[0].tolist()
        assert len(small._hashes) <= 3
    assert max(map(len, large._hashes)) <= 32


def test_scalars_of_a_multiple_choice_question_by_hand() -> None:
    found = named(CHOICE)
    lines = ["A. 10", "(b) None of the Above", "C) 1 + 2 = 3"]
    lengths = [len(line) for line in lines]
    stem = "How many of the 12 cars are NOT red, if 345 are?\n"
    expected = {
        "characters": log1p(len(CHOICE)),
        "words": log1p(len(CHOICE.split())),
        "stem_characters": log1p(len(stem)),
        "options": 3,
        "option_length_mean": log1p(np.mean(lengths)),
        "option_length_max": log1p(max(lengths)),
        "option_length_spread": log1p(np.std(lengths)),
        "option_digit_share": (2 / lengths[0] + 3 / lengths[2]) / 3,
        "option_says_above": 1,
        "digit_share": 10 / len(CHOICE),
        "has_digit": 1,
        "numbers": log1p(2),
        "largest_number_digits": log1p(3),
        "maths_symbols": log1p(3),  # "+", "=" and the blank
        "upper_share": 9 / len(CHOICE),
        "word_length": log1p(sum(map(len, CHOICE.split())) / len(CHOICE.split())),
        "distinct_word_share": len(set(CHOICE.split())) / len(CHOICE.split()),
        "question_marks": log1p(1),
        "commas": log1p(1),
        "newlines": log1p(1),
        "sentences": log1p(1),
        "has_blank": 0,  # it stands behind the options
        "negated": 1,
        "asks_amount": 1,
        "has_code": 0,
        "is_ascii": 1,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_scalars_of_text_that_is_no_question() -> None:
    found = named("def f(x):\n    return 'é😀' * 3")
    assert found["has_code"] == 1
    assert found["is_ascii"] == found["options"] == found["negated"] == found["asks_amount"] == 0
    assert named("A. only an option")["stem_characters"] == 0
    assert named("I like e.g. Fig. A. It is (b) fine")["options"] == 0
    assert named("") == {name: float(name == "is_ascii") for name in SCALARS}


def test_a_row_has_length_one_and_unknown_words_weigh_nothing() -> None:
    hasher = WordHasher()
    known, strange = hasher.buckets("two plus two"), hasher.buckets("entirely else")
    idf = np.zeros(2**BITS, dtype=np.float32)
    idf[known[0]] = np.arange(1, len(known[0]) + 1)
    weights = WordWeights(idf)
    row = weights.row(*known)
    assert row.dtype == np.float32
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    raw = known[1] * np.arange(1, len(row) + 1)
    assert row == pytest.approx(raw / np.linalg.norm(raw))
    assert not weights.row(*strange).any()


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="train the router anew"):
        WordWeights(np.ones(8, dtype=np.float32))


def test_inverse_frequency_by_hand() -> None:
    rows = [np.array(row, dtype=np.int32) for row in ([1, 2], [1], [1, 3], [1])]
    idf = inverse_frequency(iter(rows), len(rows))
    assert idf.shape == (2**BITS,)
    assert idf.dtype == np.float32
    assert idf[:4] == pytest.approx([log(4), 0, log(4 / 2), log(4 / 2)])
    assert not inverse_frequency([], 0).any()


WRITTEN = st.text(st.characters(exclude_categories=())) | st.text("aB1 \n.()?_{+,é漢😀\ud800")


@given(WRITTEN, st.booleans())
def test_any_text_gives_finite_scalars_and_rising_buckets(text: str, characters: bool) -> None:
    shape = scalars(text)
    assert shape.shape == (len(SCALARS),)
    assert shape.dtype == np.float32
    assert np.isfinite(shape).all()
    buckets, counts = WordHasher(characters=characters).buckets(text)
    assert (np.diff(buckets) > 0).all()
    assert buckets.size == 0 or 0 <= buckets[0] <= buckets[-1] < 2**BITS
    assert (counts >= 1).all()
