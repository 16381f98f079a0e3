"""Objectives: given what each eligible candidate promises and costs, which one to take.

Each is a small value with one method. An unknown cost counts as the highest: what cannot be
priced is never chosen for being cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.catalog.model import Model
from app.exchange.money import NANO_PER_DOLLAR


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate as the decision sees it.

    `quality` in [0, 1] with its lower and upper bound; `cost` in nano-dollars, None if unknown.
    `reasons` is not empty where the candidate is not eligible. `doubt`: by how much the quality may
    still change once the prompt is encoded, one standard deviation; None if it would not.
    """

    model: Model
    quality: float
    low: float
    high: float
    output_tokens: float
    cost: int | None
    reasons: tuple[str, ...] = ()
    doubt: float | None = None

    @property
    def eligible(self) -> bool:
        return not self.reasons

    @property
    def price_rank(self) -> float:
        """Cost for comparing: unknown is dearest."""
        return math.inf if self.cost is None else self.cost


@dataclass(frozen=True, slots=True)
class Choice:
    """The options in the order they should be tried, and why the first is first."""

    order: tuple[Option, ...]
    reason: str


class Objective(Protocol):
    """Orders eligible options, best first. `options` is never empty; `novelty` of the request as in
    `Estimate`.
    """

    @property
    def confidence(self) -> float:
        """One-sided confidence of the bounds it wants on each option."""
        ...

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice: ...

    def describe(self) -> dict[str, object]:
        """What `/v1/decision` shows."""
        ...


@dataclass(frozen=True, slots=True)
class Quality:
    """The cheapest option whose lower bound keeps `keep` of the best predicted quality."""

    keep: float = 0.95
    confidence: float = 0.6

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice:
        best = max(options, key=lambda option: (option.quality, -option.price_rank))
        bar = self.keep * best.quality
        meets = [o for o in options if o is best or o.low >= bar]
        meets.sort(key=lambda option: (option.price_rank, -option.quality))
        # What is under the bar comes last, the most capable first: better than no answer.
        below = [o for o in options if not (o is best or o.low >= bar)]
        below.sort(key=lambda option: (-option.quality, option.price_rank))
        reason = "best_quality" if meets[0] is best else "meets_bar"
        return Choice((*meets, *below), reason)

    def describe(self) -> dict[str, object]:
        return {"kind": "quality", "keep": self.keep, "confidence": self.confidence}


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The option with the most value: quality x what a right answer is worth, less its cost."""

    answer_value: int
    """Nano-dollars."""
    confidence: float = 0.6

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice:
        order = sorted(options, key=lambda option: (-self._value(option), option.price_rank))
        return Choice(tuple(order), "most_value")

    def _value(self, option: Option) -> float:
        return option.quality * self.answer_value - option.price_rank

    def describe(self) -> dict[str, object]:
        return {"kind": "tradeoff", "answer_value_usd": self.answer_value / NANO_PER_DOLLAR}


@dataclass(frozen=True, slots=True)
class Threshold:
    """RouteLLM's rule (2406.18665): strong if its win rate over the weak one reaches `threshold`.

    The win rate counts a tie as half a win, (1 + gain) / 2 with the gain in predicted quality,
    which for right-or-wrong outcomes is exactly P(win) + P(tie) / 2. Thresholds of RouteLLM's own
    routers do not transfer: they are on those routers' scales.
    """

    threshold: float
    strong: str | None = None
    weak: str | None = None
    confidence: float = 0.6

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice:
        strong, weak = self._pair(options)
        if strong is weak:
            return Choice(tuple(options), "only_candidate")
        win_rate = (1 + strong.quality - weak.quality) / 2
        wins = win_rate >= self.threshold
        first, second = (strong, weak) if wins else (weak, strong)
        rest = sorted(
            (o for o in options if o is not strong and o is not weak), key=lambda o: -o.quality
        )
        reason = "win_rate_reached" if wins else "win_rate_below"
        return Choice((first, second, *rest), reason)

    def _pair(self, options: Sequence[Option]) -> tuple[Option, Option]:
        """The named pair where both are eligible; else the best known stand-ins."""
        by_name = {option.model.name: option for option in options}
        named_weak = by_name.get(self.weak or "")
        # A price that is not known makes nothing strong.
        dearest = max(
            (option for option in options if option is not named_weak),
            key=lambda option: (option.cost or -1, option.quality),
            default=options[0],
        )
        strong = by_name.get(self.strong or "", dearest)
        cheapest = min(
            (option for option in options if option is not strong),
            key=lambda option: (option.price_rank, -option.quality),
            default=strong,
        )
        return strong, named_weak if named_weak not in (None, strong) else cheapest

    def describe(self) -> dict[str, object]:
        return {"kind": "threshold", "threshold": self.threshold}
