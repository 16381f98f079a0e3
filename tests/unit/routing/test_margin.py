"""The margin settles where the set share of prompts is encoded, within its bounds."""

from __future__ import annotations

import random

import pytest

from app.routing.margin import LEAST, Margin


def encoded(margin: Margin, needs: list[float]) -> float:
    """The share encoded of prompts, each of which is clear up to a margin of its own."""
    count = 0
    for need in needs:
        asked = need < margin.value
        margin.count(encoded=asked)
        count += asked
    return count / len(needs)


def prompts(count: int, scale: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [scale * rng.expovariate(1.0) for _ in range(count)]


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_the_share_is_met_whatever_the_prompts_are_like(scale: float, share: float) -> None:
    margin = Margin(10.0, share)
    encoded(margin, prompts(1_000, scale))
    assert encoded(margin, prompts(20_000, scale, seed=1)) == pytest.approx(share, abs=0.01)


def test_it_follows_when_the_traffic_changes() -> None:
    margin = Margin(1.0, 0.15)
    encoded(margin, prompts(2_000, 1.0))
    encoded(margin, prompts(500, 0.05))
    assert encoded(margin, prompts(5_000, 0.05, seed=1)) == pytest.approx(0.15, abs=0.02)


def test_clear_traffic_does_not_raise_it_above_the_most() -> None:
    margin = Margin(1.0, 0.15)
    assert encoded(margin, prompts(2_000, 1_000.0)) < 0.01
    assert margin.value == 1.0


def test_with_a_share_of_one_it_stays() -> None:
    margin = Margin(1.0, 1.0)
    encoded(margin, prompts(2_000, 0.5))
    assert margin.value == 1.0


def test_what_is_encoded_anyway_lets_it_fall_no_further_than_the_floor() -> None:
    margin = Margin(2.0, 0.15)
    for _ in range(5_000):
        margin.count(encoded=True)
    assert margin.value == pytest.approx(2.0 * LEAST)
    assert encoded(margin, prompts(2_000, 1.0)) > 0.0


def test_none_and_zero() -> None:
    margin = Margin(1.0, 0.0)
    encoded(margin, prompts(5_000, 0.1))
    assert margin.value < 0.05
    assert Margin(0.0).value == 0.0


def test_a_next_one_goes_on_within_its_own_bounds() -> None:
    former = Margin(1.0, 0.15)
    for _ in range(40):
        former.count(encoded=True)
    same, lower = Margin(1.0, 0.15), Margin(former.value / 2, 0.15)
    same.succeed(former)
    lower.succeed(former)
    assert same.value == former.value < 1.0
    assert lower.value == former.value / 2
