"""The written form of how a route chooses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from app.config.fields import (
    Dollars,
    Name,
    Written,
)


class QualityObjective(Written):
    """The cheapest model whose predicted quality is at least `keep` of the best candidate's."""

    kind: Literal["quality"]
    keep: float = Field(default=0.95, gt=0, le=1)
    confidence: float = Field(
        default=0.6,
        ge=0.5,
        lt=1,
        description="How sure the prediction must be: the bar is held against this lower bound.",
    )


class TradeoffObjective(Written):
    """Most value for money: quality x what a right answer is worth, less its cost."""

    kind: Literal["tradeoff"]
    answer_value_usd: Dollars = Field(
        description="What one right answer is worth to you, in US dollars."
    )


class ThresholdObjective(Written):
    """RouteLLM's rule: the strong model when it is likely enough to win, else the weak one."""

    kind: Literal["threshold"]
    threshold: float = Field(ge=0, le=1, description="Least win rate that buys the strong model.")
    strong: Name | None = Field(default=None, description="The baseline if absent.")
    weak: Name | None = Field(default=None, description="The cheapest other candidate if absent.")

    @model_validator(mode="after")
    def _two_models(self) -> ThresholdObjective:
        if self.strong is not None and self.strong == self.weak:
            raise ValueError("`strong` and `weak` name the same model")
        return self


class BudgetObjective(Written):
    """As much quality as a budget buys: the trade-off follows what has been spent."""

    kind: Literal["budget"]
    usd_per_day: Dollars | None = Field(
        default=None, description="For the route, a UTC day; workers share it in equal parts."
    )
    usd_per_1k_requests: Dollars | None = Field(
        default=None, description="However many requests there are."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> BudgetObjective:
        if (self.usd_per_day is None) == (self.usd_per_1k_requests is None):
            raise ValueError("give one of `usd_per_day` and `usd_per_1k_requests`")
        return self


class GuaranteeObjective(Written):
    """At least `keep` of the strong model's mean quality, with confidence 1 - `delta`.

    Needs a promise for the route's candidates in its router: `pointsman calibrate`.
    """

    kind: Literal["guarantee"]
    keep: float = Field(default=0.95, gt=0, le=1)
    delta: float = Field(
        default=0.1, gt=0, le=0.5, description="How likely the calibration may have misled."
    )
    strong: Name | None = Field(default=None, description="The baseline if absent.")


Objective = Annotated[
    QualityObjective
    | TradeoffObjective
    | BudgetObjective
    | GuaranteeObjective
    | ThresholdObjective,
    Field(discriminator="kind"),
]


class WhenBudgetLow(Written):
    """How to choose once a budget that the request meets is spent to its `soft_share`."""

    objective: Annotated[
        QualityObjective | TradeoffObjective | ThresholdObjective, Field(discriminator="kind")
    ]
