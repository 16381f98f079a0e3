"""The most that a call may cost, which is what a budget must have room for before it is made.

Two bounds: no tokenizer makes more tokens of a text than it has bytes, and `max_tokens` bounds the
answer. Without `max_tokens` an answer is taken to be no longer than `UNSAID_OUTPUT_TOKENS`, and
only then may a call cost more than was reserved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.accounting.cost import largest_cost
from app.catalog.model import Model
from app.state.base import Ask

UNSAID_OUTPUT_TOKENS = 4_096
"""Output reserved of a budget where neither the request nor the model sets a lower end. Few answers
are longer; the longest a model can write would lock small budgets for requests that cost a
thousandth of it."""
USUAL_OUTPUT_TOKENS = 300
"""Output taken from a rate of tokens where the request sets no end; corrected when it is known."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of one request, in tokens: `input_most` is never exceeded, `input_usual` an estimate.

    `output_most` is `max_tokens`, None if it was not sent; it holds for each of `choices`. `day` is
    the UTC day it came in, at whose prices it is billed; None is today.
    """

    input_most: int
    input_usual: int
    output_most: int | None
    choices: int = 1
    day: int | None = None


class Most:
    """What calls of a catalog's models may cost and take at most.

    A model without prices counts at the dearest ones of the catalog: unknown is not free.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        books = [each.prices for model in models for each in model.deployments]
        self._priced = tuple(book for book in books if book is not None)

    def ask(self, model: Model, size: Size) -> Ask:
        """What to reserve for a call of a model."""
        longest, usual = _output(model, size)
        output = longest * size.choices
        most, day = size.input_most, size.day
        usd = 0
        for deployment in model.deployments:
            dearest = largest_cost(deployment.prices, most, output, day)
            if dearest is None:
                others = (largest_cost(prices, most, output, day) for prices in self._priced)
                dearest = max((each for each in others if each is not None), default=0)
            usd = max(usd, dearest)
        return Ask(usd, size.input_usual + usual * size.choices)


def _output(model: Model, size: Size) -> tuple[int, int]:
    """Longest and usual output of one choice."""
    said = size.output_most
    if said is None:
        longest = UNSAID_OUTPUT_TOKENS
        if model.max_output is not None and model.max_output < longest:
            longest = model.max_output
        return longest, min(longest, USUAL_OUTPUT_TOKENS)
    if model.max_output is not None and model.max_output < said:
        return model.max_output, model.max_output
    return said, said
