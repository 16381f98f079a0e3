"""Money as integers: nano-dollars inside, decimal strings outside, so that sums never drift.

A price is kept in nano-dollars per million tokens: $0.0375 per million is 37,500,000, exactly.
"""

from __future__ import annotations

from decimal import Decimal

NANO_PER_DOLLAR = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000


def nano_from_usd(amount: Decimal) -> int:
    """Nano-dollars of an amount in dollars; ValueError if it has more than nine decimals."""
    nano = amount * NANO_PER_DOLLAR
    if nano != nano.to_integral_value():
        raise ValueError(f"{amount} has more than nine decimals")
    return int(nano)


def usd_text(nano: int) -> str:
    """Dollars as a plain decimal string, `0.00000315` rather than `3.15e-06`."""
    sign, digits = ("-" if nano < 0 else ""), abs(nano)
    whole, fraction = divmod(digits, NANO_PER_DOLLAR)
    tail = f"{fraction:09d}".rstrip("0")
    return f"{sign}{whole}.{tail}" if tail else f"{sign}{whole}"


def round_to_nano(nano_times_million: int) -> int:
    """Divide a sum of (tokens x nano-dollars per million) by a million, half to even."""
    quotient, remainder = divmod(nano_times_million, TOKENS_PER_PRICE)
    twice = 2 * remainder
    if twice > TOKENS_PER_PRICE or (twice == TOKENS_PER_PRICE and quotient % 2):
        quotient += 1
    return quotient
