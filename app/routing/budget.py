"""The objective that spends a budget where it buys the most quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.exchange.money import NANO_PER_DOLLAR
from app.routing.objective import Choice, Option
from app.routing.pace import Pace


@dataclass(frozen=True, slots=True)
class Budget:
    """Quality less cost at the pace's current price, which is what `Tradeoff` does with a fixed
    one. Choosing reads the price and never moves it: an explanation spends nothing.
    """

    pace: Pace
    confidence: float = 0.6

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice:
        price = self.pace.quality_per_nano

        def value(option: Option) -> float:
            # What can't be priced is never chosen for being cheap, not even while money is plenty.
            return -math.inf if option.cost is None else option.quality - price * option.cost

        order = sorted(options, key=lambda option: (-value(option), option.price_rank))
        return Choice(tuple(order), "budget_worth" if price else "budget_slack")

    def describe(self) -> dict[str, object]:
        """With what a right answer is worth just now, in dollars; None while money is no object."""
        price = self.pace.quality_per_nano
        worth = round(1 / price / NANO_PER_DOLLAR, 9) if price else None
        return {"kind": "budget", **self.pace.allowance.describe(), "answer_value_usd": worth}
