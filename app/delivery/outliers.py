"""A deployment that fails far more than its model's others is put out before its breaker would
open by itself, as long as half of them stay."""

from __future__ import annotations

from collections.abc import Sequence

from app.delivery.health import Counts

_LEAST_RATIO = 0.2
"""Below this no deployment is worth putting out."""
_TIMES_WORSE = 3.0


def stands_out(own: Counts, others: Sequence[Counts], *, out: int, least: int) -> bool:
    """Whether a deployment is to be put out, of which `out` others are out already.

    It and the others together must have been asked `least` times in the window.
    """
    stay = len(others) - out
    if 2 * stay < len(others) + 1:
        return False
    asked = sum(each.total for each in others)
    if own.total < least or asked < least:
        return False
    usual = sum(each.failed for each in others) / asked
    return own.error_ratio >= max(_LEAST_RATIO, usual * _TIMES_WORSE)
