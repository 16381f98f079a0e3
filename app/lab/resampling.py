"""Bootstrap over prompts, paired: every method is scored on the same resamples, so that the
interval of a difference does not hold what the methods have in common.

A resample is how often each prompt was drawn. Figures are then weighted sums over prompts that were
sorted once, which makes 500 resamples of 10,000 prompts a matter of a second.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.9
_BLOCK_CELLS = 2_000_000
_MOST_UNDEFINED = 0.05


class Resamples:
    """`repeats` draws of `size` items with replacement."""

    def __init__(self, size: int, repeats: int, seed: int) -> None:
        self.size, self.repeats = size, repeats
        self._block = max(1, _BLOCK_CELLS // max(1, size))
        rng = np.random.default_rng(seed)
        parts = []
        for start in range(0, repeats, self._block):
            rows = min(self._block, repeats - start)
            drawn = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * size)
            parts.append(counts.reshape(rows, size).astype(np.uint8))
        self._counts = np.concatenate(parts) if parts else np.empty((0, size), dtype=np.uint8)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Counts (rows, size), a block of resamples at a time."""
        for start in range(0, self.repeats, self._block):
            yield self._counts[start : start + self._block].astype(np.float32)

    def means(self, values: NDArray[np.floating]) -> Array:
        """Mean of each row of `values` (k, size) in each resample: (repeats, k)."""
        columns = np.ascontiguousarray(values.T, dtype=np.float32)
        parts = [block @ columns for block in self.blocks()]
        found = np.concatenate(parts) if parts else np.empty((0, len(values)), dtype=np.float32)
        return found.astype(np.float64) / self.size


def resampled_apgr(gain: Array, weak: Array, strong: Array, resamples: Resamples) -> Array:
    """APGR of each resample, exactly `exact_curve(...).apgr()` of its prompts. nan where the strong
    model is not the better one in a resample.
    """
    area, gap = _recovered(gain, weak, strong, resamples, np.arange(len(gain)))
    return _ratio(area, gap)


def resampled_apgr_within(
    gain: Array, weak: Array, strong: Array, folds: NDArray[np.intp], resamples: Resamples
) -> Array:
    """APGR of each resample where every fold is swept by itself, at the same share of calls: the
    mean of the folds' APGR, each with the weight of what there is to gain in it.
    """
    area, gap = np.zeros((2, resamples.repeats))
    for fold in np.unique(folds):
        of_fold = _recovered(gain, weak, strong, resamples, np.flatnonzero(folds == fold))
        area, gap = area + of_fold[0], gap + of_fold[1]
    return _ratio(area, gap)


def _recovered(
    gain: Array, weak: Array, strong: Array, resamples: Resamples, rows: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Of some prompts in each resample: the area under what their ranking wins over the share of
    strong calls, and what there is to win, both as sums over prompts.
    """
    order = rows[np.argsort(-gain[rows], kind="stable")]
    ordered = gain[order]
    last_of_tie = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    true_gain = (strong - weak)[order].astype(np.float32)
    areas, gaps = [np.empty(0)], [np.empty(0)]
    for block in resamples.blocks():
        drawn = block[:, order]
        share = _from_zero(np.cumsum(drawn, axis=1, dtype=np.float64)[:, last_of_tie])
        won = _from_zero(np.cumsum(drawn * true_gain, axis=1, dtype=np.float64)[:, last_of_tie])
        # Ties run along the straight line between their ends: the mean of all their orders.
        area = ((won[:, 1:] + won[:, :-1]) * np.diff(share, axis=1)).sum(axis=1) / 2
        count = share[:, -1]
        areas.append(np.divide(area, count, out=np.zeros_like(area), where=count > 0))
        gaps.append(won[:, -1])
    return np.concatenate(areas), np.concatenate(gaps)


def interval(values: Array, level: float = LEVEL) -> tuple[float, float] | None:
    """Quantiles that hold the middle `level`; None where more than one resample in twenty leaves
    the figure undefined.
    """
    undefined = float(np.isnan(values).mean()) if len(values) else 1.0
    if undefined > _MOST_UNDEFINED:
        return None
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _from_zero(sums: Array) -> Array:
    return np.concatenate((np.zeros((len(sums), 1)), sums), axis=1)
