"""Reported usages to hand-computed nano-dollars, through the readers and the price lists."""

import re
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from app.accounting.cost import cost, largest_cost, lines, missing_price
from app.catalog.prices import PriceBook, Prices, compile_prices, day_of
from app.config.schema import PricesOrLists
from app.exchange.usage import Usage
from app.wire import usage as readers

TABLE = YAML(typ="safe").load(Path(__file__).with_name("golden_usages.yaml").read_text())
WRITTEN: Any = TypeAdapter(PricesOrLists)
ROWS = TABLE["usages"]


def by_hand(text: str) -> int:
    """`3*2500 + 4*10000` in nano-dollars; numbers, `*` and `+` only."""
    total = Decimal(0)
    for product in text.split("+"):
        factors = product.strip().split("*")
        assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", factor) for factor in factors), text
        amount = Decimal(1)
        for factor in factors:
            amount *= Decimal(factor)
        total += amount
    return int(total.quantize(Decimal(1), ROUND_HALF_EVEN))


def read(row: dict[str, Any]) -> tuple[PriceBook, Usage, int]:
    prices = compile_prices(WRITTEN.validate_python(TABLE["prices"][row["prices"]]))
    reports = row.get("reports") or [row["usage"]]
    if "service_tier" in row:
        reports = [*reports, row["service_tier"]]
    usage = getattr(readers, row["shape"])(*reports)
    day = day_of(row.get("day") or date(2026, 11, 25))
    assert prices is not None
    assert usage is not None
    return prices, usage, day


def test_there_are_enough_and_each_is_named_once() -> None:
    assert len({row["name"] for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_golden(row: dict[str, Any]) -> None:
    prices, usage, day = read(row)
    assert cost(prices, usage, day) == row["nano"]
    assert usage.upstream_cost == row.get("upstream_cost")
    if row["nano"] is None:
        assert missing_price(prices, usage, day) == row["missing"]
    else:
        assert by_hand(row["sum"]) == row["nano"]
        most = largest_cost(prices, usage.input_tokens, usage.output_tokens, day)
        assert most is not None
        assert most >= row["nano"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_bill_has_each_token_once(row: dict[str, Any]) -> None:
    _, usage, _ = read(row)
    everything = Prices(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    billed = list(lines(everything, usage))
    assert sum(tokens for _, tokens, _ in billed) == usage.input_tokens + usage.output_tokens
    assert all(tokens >= 0 for _, tokens, _ in billed)
    assert len({name for name, _, _ in billed}) == len(billed)
