"""Which pairs of models a kind is tried on that is made for a route's candidates: at fitting time
nobody knows what these will be.
"""

from __future__ import annotations

import numpy as np

from app.lab.ground import Ground

MOST_PAIRS = 40
FEWEST_ROWS = 100


def pairs_to_try(ground: Ground) -> list[tuple[int, int]]:
    """At most 40 pairs of columns, the less able model first, drawn by seed from those that were
    both scored on at least 100 rows; where there are none, the pair with most rows in common, and
    nothing where no two models share a row.
    """
    known = (~np.isnan(ground.table.scores)).astype(np.float32)
    common = np.triu(known.T @ known, k=1)
    first, second = np.nonzero(common >= min(float(FEWEST_ROWS), max(1.0, float(common.max()))))
    drawn = np.random.default_rng(ground.seed).permutation(len(first))[:MOST_PAIRS]
    ability = ground.fitted.table.ability
    return [
        (int(a), int(b)) if ability[a] <= ability[b] else (int(b), int(a))
        for a, b in zip(first[drawn], second[drawn], strict=True)
    ]
