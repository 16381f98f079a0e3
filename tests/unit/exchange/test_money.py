"""Money is exact."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exchange.money import nano_from_usd, round_to_nano, usd_text


def test_dollars_become_nano_dollars() -> None:
    assert nano_from_usd(Decimal("0.0375")) == 37_500_000
    with pytest.raises(ValueError, match="nine decimals"):
        nano_from_usd(Decimal("0.0000000001"))


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (3_150, "0.00000315"),
        (1, "0.000000001"),
        (-1_500_000_000, "-1.5"),
        (12 * 10**9, "12"),
    ],
)
def test_text_is_plain_decimal(nano: int, text: str) -> None:
    assert usd_text(nano) == text


@given(st.integers(-(10**15), 10**15))
def test_text_reads_back(nano: int) -> None:
    assert nano_from_usd(Decimal(usd_text(nano))) == nano


@given(st.integers(0, 10**18))
def test_rounding_is_half_to_even(total: int) -> None:
    assert round_to_nano(total) == int((Decimal(total) / 1_000_000).quantize(Decimal(1)))
