"""Nearest valid name, for every message that refuses one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """A hint: the nearest valid name, or all of them when none is near and they are few."""
    names = sorted(set(valid))
    folded = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{folded[close[0]]}`?"
    if 0 < len(names) <= 12:
        return "valid: " + ", ".join(names)
    return None
