"""Questions whose vectors are alike and whose answers differ don't share one."""

from __future__ import annotations

import pytest

from app.delivery.cache.likeness import LONGEST, signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 5 - 3?", "What is 3 - 5?"),
        ("What is 5 - 3?", "What is 5 + 3?"),
        ("Who ruled in 1905?", "Who ruled in 1950?"),
        ("Is this mushroom edible?", "Is this mushroom not edible?"),
        ("Does it rain there?", "Doesn't it rain there?"),
        ("How far is Bern from Basel?", "How far is Basel from Bern?"),
        ("Paris is in which country?", "London is in which country?"),
        ("the largest lake", "the smallest lake"),
        ("trains before noon", "trains after noon"),
        ("When was it built?", "Where was it built?"),
        ("What does `len(x)` do?", "What does `len(y)` do?"),
        ('Translate "cat" please', 'Translate "dog" please'),
        ("solve for x", "solve for y"),
        ("does he love her", "does she love him"),
        ("the cost of one ticket", "the cost of two tickets"),
        ("It is true, if and only if A", "It is true only if A"),
        ("Ist das nicht gut", "Ist das gut"),
    ],
)
def test_what_turns_the_answer(one: str, other: str) -> None:
    assert signature(one) != signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what's the capital of France"),
        ("What is the capital of France?", "Please tell me the capital of France. Thanks!"),
        ("Explain the rules of chess.", "please explain the rules of chess"),
        ("It costs 1,000 euros", "It costs 1000 euros"),
        ("He doesn't know", "He doesn’t know"),
    ],
)
def test_other_words_for_the_same(one: str, other: str) -> None:
    assert signature(one) == signature(other) != None  # noqa: E711


@pytest.mark.parametrize("text", ["a " * LONGEST, "東京の天気は？", "Какая погода?"])
def test_what_no_vector_stands_for(text: str) -> None:
    assert signature(text) is None
