"""Whether two questions that a vector calls alike may have one answer: what vectors hardly see.

Small encoders put "before 1950" beside "after 1905", "is" beside "is not", and one name beside
another. So a few things must be the same in both questions, in the same order: numbers, names,
quotations and code, signs, negations and other words that turn an answer round. It is a guard of
plain words: it refuses many questions that do mean the same, and English ones are what it knows.
"""

from __future__ import annotations

import re
from hashlib import blake2b

LONGEST = 400
"""Characters. In a longer text the vector no longer shows one changed word."""

_PARTS = re.compile(
    r"```.*?```|`[^`]+`|\"[^\"]+\"|“[^”]+”|(?<!\w)'[^']+'(?!\w)"  # quotations and code
    r"|\d+(?:[.,:/]\d+)*"
    r"|[A-Za-z]+(?:['’][A-Za-z]+)*"
    r"|[^\w\s.,;:?!'’\"()-]|(?<![A-Za-z])-(?=[\w(.])|_",
    re.DOTALL,
)
LAST_LATIN = "\u024f"
_PLAIN = ("a", "i")

_OPENINGS = """
a an and are as at can compute consider could define describe determine did do does each evaluate
every explain find for given give has have he hello help here hey hi how however i if in is it let
list may my name of on or our please provide shall she should show so some suppose tell thank thanks
that the there these they this those to under using was we were what what's when where which who
who's whom whose why will with would write you your
"""
_NEGATIONS = """
not no nor never none neither nobody nothing nowhere without cannot can't don't doesn't didn't isn't
aren't wasn't weren't won't wouldn't shouldn't couldn't haven't hasn't hadn't mustn't unless except
excluding but barely hardly if or lack absence remove removed removal false true
incorrect correct wrong right
nicht kein keine keinen ohne nie pas sans jamais sin nunca senza
"""
_AMOUNTS = """
zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty
hundred thousand million billion dozen half third quarter double triple twice thrice once first
second last next previous final initial all any some every each both either only
"""
_CONTRARIES = """
more less most least fewer greater smaller larger bigger higher lower longer shorter older younger
faster slower earlier later best worst better worse max min maximum minimum largest smallest
greatest highest lowest longest shortest biggest oldest youngest fastest slowest before after above
below over under up down left right north south east west inside outside into from until since
between increase increases increased increasing decrease decreases decreased decreasing rise rises
fall falls gain loss add subtract plus minus times multiply divide divided positive negative even
odd hot cold buy sell start stop begin end open close enable disable enabled disabled include allow
deny accept reject off out against pros cons advantages disadvantages benefits risks strengths
weaknesses cause causes effect effects same different similar past present future always sometimes
usually rarely often must may might should
"""
_ASKED = """
who whom whose when where why how he him his she her hers they them their we us our male female man
woman men women boy girl mother father husband wife brother sister son daughter
"""
_MAY_OPEN = frozenset(_OPENINGS.split())
"""Capitalised because a sentence begins with them. Any other capital makes a name."""
_TURNING = frozenset(f"{_NEGATIONS} {_AMOUNTS} {_CONTRARIES} {_ASKED}".split())


def signature(text: str) -> bytes | None:
    """Eight bytes that two questions must share, besides a similar vector; None for a text that no
    vector stands for: too long, or in letters that are not Latin."""
    if len(text) > LONGEST:
        return None
    if any(letter > LAST_LATIN and letter.isalpha() for letter in text):
        return None
    told: list[str] = []
    for match in _PARTS.finditer(text):
        part = match.group()
        if part[0].isdigit():
            told.append(part.replace(",", ""))
        elif not part[0].isalpha():
            told.append(part)
        elif _tells(part, text, match.start()):
            told.append(part.lower().replace("’", "'"))
    return blake2b("\0".join(told).encode(), digest_size=8).digest()


def _tells(word: str, text: str, start: int) -> bool:
    """Whether a word must be the same: a single letter, one that turns an answer, or a name."""
    low = word.lower().replace("’", "'")
    if low in _TURNING:
        return True
    if len(low) == 1:
        return low not in _PLAIN
    return word != low and not (low in _MAY_OPEN and _opens(text[:start]))


def _opens(before: str) -> bool:
    """Whether a sentence begins behind these words."""
    return before.rstrip(" \t\"'“(")[-1:] in ("", ".", "?", "!", ":", "\n", "|", ";")
