"""What a router that only reads words sees of a prompt: hashed words and a few shape figures.

No encoder stands before it, so a prompt is read in tens of microseconds. Hashes are a fixed
function of the text (CRC-32 and multiplication), so weights trained on one machine fit on another.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import log1p, sqrt

import numpy as np
from numpy.typing import NDArray

BITS = 16
"""Words, pairs of words and character 4-grams share 2**BITS buckets."""

HEAD_CHARACTERS = 2_000
TAIL_CHARACTERS = 1_000
"""Of a longer text only both ends are read, so that a paste cannot cost more than this."""

WORDS_REMEMBERED = 50_000
_LONGEST_WORD = 32
"""A longer run of letters is read in pieces: it bounds the memory that one cached word takes."""

_MOST_OPTIONS = 20
"""Multiple-choice options measured; a list of hundreds is not a question and must not cost more."""

# Words, and each digit and each other visible character alone: numbers are too many to hash whole.
# Kana and Chinese characters count alone too: between them no space says where a word ends.
_TOKEN = re.compile(rf"[^\W\d_\u3040-\u30ff\u3400-\u9fff]{{1,{_LONGEST_WORD}}}|\S")
# Searched in "\n" + text: a literal first character is found faster than a multi-line anchor.
_OPTION = re.compile(r"\n[ \t]*\(?[A-Ja-j][.)](?=\s)[^\n]*")
_CODE_MARKS = ("```", "def ", ";\n", "{")
_MATHS = b"+-*/=^<>\\${}_"
# Odd 32-bit constants for multiplicative hashing, one a kind of feature. Changing one of them
# silently invalidates every trained artefact.
_WORD = np.uint32(0x9E3779B1)
_FIRST = np.uint32(0x85EBCA77)
_PAIR = np.uint32(0xC2B2AE3D)
_CHARACTERS = np.uint32(0x27D4EB2F)
_DROPPED_BITS = np.uint32(32 - BITS)
_GRAM = 4

SCALARS: tuple[str, ...] = (
    "characters",
    "words",
    "stem_characters",
    "options",
    "option_length_mean",
    "option_length_max",
    "option_length_spread",
    "option_digit_share",
    "option_says_above",
    "digit_share",
    "has_digit",
    "numbers",
    "largest_number_digits",
    "maths_symbols",
    "upper_share",
    "word_length",
    "distinct_word_share",
    "question_marks",
    "commas",
    "newlines",
    "sentences",
    "has_blank",
    "negated",
    "asks_amount",
    "has_code",
    "is_ascii",
)
"""Names of what `scalars` gives, in its order."""


def _classes() -> bytes:
    """A byte's class: 0 digit, A capital, + mathematical symbol, s white space, . all else."""
    kinds = bytearray(b"." * 256)
    for members, kind in (
        (b"0123456789", b"0"),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"A"),
        (_MATHS, b"+"),
        (b" \t\n\r\v\f", b"s"),
    ):
        for member in members:
            kinds[member] = kind[0]
    return bytes(kinds)


_CLASSES = _classes()
_DIGITS_ONLY = bytes(byte if kind == ord("0") else 32 for byte, kind in enumerate(_CLASSES))


def scalars(text: str) -> NDArray[np.float32]:
    """Shape of a text, `(len(SCALARS),)`: logarithms of sizes and counts, shares, and flags.

    Raw, so to be standardised before a linear model, and finite for any text. The stem is what
    stands before the first line that looks like a multiple-choice option ("A. ", "(b) "). Digits
    and capitals are ASCII's.
    """
    length = len(text)
    text = _both_ends(text)
    read = len(text)
    options = [match.span() for match in _OPTION.finditer("\n" + text)][:_MOST_OPTIONS]
    # Offsets in `text` are one less; the line break before the option is not part of the stem.
    stem_length = max(options[0][0] - 1, 0) if options else read
    stem = text[:stem_length]
    # One byte for each character, so offsets are those of the text; "replace" takes any character.
    plain = text.encode("ascii", "replace")
    kinds = plain.translate(_CLASSES)
    digits = kinds.count(b"0")
    numbers = plain[:stem_length].translate(_DIGITS_ONLY).split() if digits else []
    words = text.split()
    lowered = stem.lower()
    share = 1.0 / max(read, 1)
    return np.array(
        (
            log1p(length),
            log1p(len(words)),
            log1p(stem_length),
            len(options),
            *_of_options(options, kinds, text),
            digits * share,
            digits > 0,
            log1p(len(numbers)),
            log1p(max(map(len, numbers), default=0)),
            log1p(kinds.count(b"+")),
            kinds.count(b"A") * share,
            log1p((read - kinds.count(b"s")) / max(len(words), 1)),
            len(set(words)) / max(len(words), 1),
            log1p(stem.count("?")),
            log1p(stem.count(",")),
            log1p(stem.count("\n")),
            log1p(stem.count(".") + stem.count("!") + stem.count("?")),
            "_" in stem,
            " not " in lowered or "except" in lowered,
            "how many" in lowered or "how much" in lowered,
            any(mark in text for mark in _CODE_MARKS),
            text.isascii(),
        ),
        dtype=np.float32,
    )


def _of_options(
    options: list[tuple[int, int]], kinds: bytes, text: str
) -> tuple[float, float, float, float, bool]:
    """Mean, maximum and spread of the lengths, mean share of digits, and whether one says "above".

    Spans count from the line break in front: an option is `text[start : end - 1]`.
    """
    if not options:
        return 0.0, 0.0, 0.0, 0.0, False
    count = len(options)
    lengths = [end - start - 1 for start, end in options]
    mean = sum(lengths) / count
    spread = sqrt(sum((length - mean) ** 2 for length in lengths) / count)
    digit_shares = [kinds.count(b"0", start, end - 1) / (end - start - 1) for start, end in options]
    says_above = any("above" in text[start : end - 1].lower() for start, end in options)
    return log1p(mean), log1p(max(lengths)), log1p(spread), sum(digit_shares) / count, says_above


class _WordHashes(dict[str, int]):
    """CRC-32 by word, filled when asked. Forgets everything when full: a common word is soon back,
    and least-lately-used order would cost more on each read than all the hashing does.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, word: str) -> int:
        if len(self) >= self._limit:
            self.clear()
        # A JSON string can hold half a surrogate pair, which plain UTF-8 refuses.
        found = self[word] = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        return found


class WordHasher:
    """Buckets of a text's lower-cased words, single digits and marks, and of their pairs.

    `characters` adds the 4-grams of bytes over the tokens joined by single spaces, so that a gram
    knows where a word begins and ends. `remembered` bounds the words whose hashes are kept.
    """

    def __init__(self, *, characters: bool = False, remembered: int = WORDS_REMEMBERED) -> None:
        self.characters = characters
        self._hashes = _WordHashes(remembered)

    def buckets(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Distinct buckets in rising order, and 1 + log(count) of each."""
        return count_buckets(self.hashes(text))

    def hashes(self, text: str) -> NDArray[np.uint32]:
        """32 bits of every word and pair, in no order and as often as it occurs."""
        tokens = _TOKEN.findall(_both_ends(text).lower())
        hashes = np.fromiter(map(self._hashes.__getitem__, tokens), np.uint32, len(tokens))
        parts = [hashes * _WORD, (hashes[:-1] * _FIRST + hashes[1:]) * _PAIR]
        if self.characters:
            parts.append(_grams(" ".join(tokens)) * _CHARACTERS)
        return np.concatenate(parts)


def count_buckets(hashes: NDArray[np.uint32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Distinct buckets of hashes in rising order, and 1 + log(count) of each."""
    # The upper bits of a product depend on every bit of its factors.
    keys = hashes >> _DROPPED_BITS
    found, counts = np.unique(keys.astype(np.int32), return_counts=True)
    return found, np.log(counts.astype(np.float32)) + np.float32(1.0)


def _both_ends(text: str) -> str:
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"


def _grams(joined: str) -> NDArray[np.uint32]:
    """Every four bytes in a row as one number: a view of the bytes that steps by one."""
    padded = f" {joined} ".encode("utf-8", "surrogatepass")
    count = max(len(padded) - _GRAM + 1, 0)
    return np.ndarray((count,), "<u4", padded, 0, (1,)).astype(np.uint32)


@dataclass(frozen=True)
class WordWeights:
    """How telling each bucket is: `idf` is `(2**BITS,)` float32."""

    idf: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.idf.shape != (2**BITS,):
            raise ValueError(
                f"word weights have shape {self.idf.shape}, not ({2**BITS},): train the router anew"
            )

    def row(self, buckets: NDArray[np.int32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights of the buckets, L2-normalised; zeros if no bucket tells anything."""
        weights = counts * self.idf[buckets]
        norm = sqrt(float(weights @ weights))
        return weights / np.float32(norm) if norm else weights


def inverse_frequency(rows: Iterable[NDArray[np.int32]], count: int) -> NDArray[np.float32]:
    """`log(count / (1 + texts with the bucket))`, not below 0, `(2**BITS,)`.

    `rows` are the distinct buckets of each of `count` texts. A bucket that no text has gets the
    highest weight, as a word never seen would.
    """
    texts = np.zeros(2**BITS, dtype=np.float64)
    for row in rows:
        texts[row] += 1.0
    return np.maximum(np.log(max(count, 1) / (1.0 + texts)), 0.0).astype(np.float32)
