"""Finds the threshold on predicted gain that keeps a promised share of the strong model's quality.

Routing by threshold t takes the first cheaper model whose predicted gain (strong minus it) is at
most t, and the strong one if there is none. On a calibration row with strong score s and chosen
score c(t), let

    Z(t) = x s - c(t)        [ = 1[cheap at t] (s - w) - (1 - x) s  with one cheaper model ]

so "the mean quality kept is at least x of the strong model's mean" is E Z(t) <= 0.

Thresholds are tried in a fixed order, from all-strong towards all-cheap, each by a test of
"E Z(t) > 0" at level delta; the first one that is not rejected ends the walk and the last one
before it is kept. This needs no correction for the number of thresholds. Either no threshold of the
sequence breaks the promise, or there is a first that does, t*; and anything at or beyond t* is kept
only if t* is rejected, which a test at level delta does with probability at most delta. (Fixed-
sequence testing; Bauer 1991, and for risks of predictors Angelopoulos et al., "Learn then Test",
2110.01052.) What it needs is that the sequence is fixed before the scores are seen: it is a plain
grid of numbers.

What it promises: with probability at least 1 - delta over the draw of the calibration rows, the
mean quality on further requests *from where these came from* is at least x of what the strong model
alone would have. It says nothing about a single request, nor about other traffic, other prices of
being wrong, a model that its provider has changed, or a router trained again.

Tried and left out: the predicted gain as a control variate for Z, which would lower its variance by
2.5 % on MMLU; starting the walk nearer its likely end, which changes nothing since the safe
thresholds pass anyway; averaging bets over several orders of the rows, which is valid but loses all
power, because a capital that ends at 1/delta or nothing has an average that ends at neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.bounds import BOUNDS, Array, BoundName, upper_bound

GRID = np.arange(-1000, 1001) / 1000
"""Thresholds in the order tried. Gains are differences of qualities, so they lie in [-1, 1]."""
NOVELTY_QUANTILE = 0.99
"""Prompts more novel than this share of the calibration rows go to the strong model."""
USEFUL_SHARE = 0.01
"""A promise that sends fewer requests to cheaper models is not worth making."""
MOST_NEEDED = 20_000
_BLOCK = 128
_NEEDED_DRAWS = 9
_ORDER_SEED = 20


@dataclass(frozen=True, slots=True)
class Terms:
    """What is promised: `keep` of the strong model's mean, wrong with probability `delta`."""

    keep: float = 0.95
    delta: float = 0.1
    bound: BoundName = "betting"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Rows for which everything is known, in any order.

    `strong` (n,) and `cheaper` (n, W) are scores in [0, 1], the cheaper models in the order they
    are to be preferred; `gains` (n, W) the predicted quality of the strong one minus theirs;
    `novelty` (n,).
    """

    strong: Array
    cheaper: Array
    gains: Array
    novelty: Array

    def __len__(self) -> int:
        return len(self.strong)

    def take(self, rows: NDArray[np.intp]) -> Calibration:
        return Calibration(
            self.strong[rows], self.cheaper[rows], self.gains[rows], self.novelty[rows]
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """When a cheaper model may be chosen: its predicted gain is at most `threshold`, in a prompt at
    most as novel as `novelty_limit`.
    """

    threshold: float
    novelty_limit: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A gate that holds. `kept` and `cheap_share` are what it does on the calibration rows;
    `bound_value` is the upper bound of the mean of Z, at most 0.
    """

    gate: Gate
    kept: float
    cheap_share: float
    bound_value: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """What many calibrations on fresh draws would have done."""

    splits: int
    violations: float
    cheap_share: float


def choices(rows: Calibration, gate: Gate) -> tuple[Array, NDArray[np.bool_]]:
    """Chosen scores and whether the choice is a cheaper model, both (n,)."""
    score, cheap = _sweep(rows, np.array([gate.threshold]), gate.novelty_limit)
    return score[:, 0], cheap[:, 0]


def outcome(rows: Calibration, gate: Gate | None) -> tuple[float, float]:
    """Quality kept and share of cheaper models on any rows; without a gate all are strong."""
    if gate is None:
        return 1.0, 0.0
    score, cheap = choices(rows, gate)
    return float(score.mean() / rows.strong.mean()), float(cheap.mean())


def find_gate(rows: Calibration, terms: Terms) -> Gate | None:
    """The last threshold that holds, or None where it would buy next to nothing."""
    # Bets look at rows in turn, so their order must owe nothing to their scores.
    rows = rows.take(np.random.default_rng(_ORDER_SEED).permutation(len(rows)))
    # From the prompts alone, not from their scores.
    limit = float(np.quantile(rows.novelty, NOVELTY_QUANTILE))
    threshold = _walk(rows, terms, limit)
    gate = None if threshold is None else Gate(threshold, limit)
    return gate if outcome(rows, gate)[1] >= USEFUL_SHARE else None


def calibrate(rows: Calibration, terms: Terms) -> Calibrated | None:
    """The gate for these rows with what it does on them; None as `find_gate`."""
    gate = find_gate(rows, terms)
    if gate is None:
        return None
    kept, share = outcome(rows, gate)
    losses = terms.keep * rows.strong - choices(rows, gate)[0]
    bound = upper_bound(terms.bound, losses, terms.delta, *_range(terms))
    return Calibrated(gate, kept, share, bound)


def simulate(
    rows: Calibration,
    terms: Terms,
    splits: int,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Simulated:
    """How often the promise would be broken, were these rows all the traffic there is.

    Each time as many rows are drawn with replacement and calibrated on, and what the gate keeps is
    taken over all rows: so the truth is known exactly. To calibrate on one half and measure on the
    other would count the error of the second half too, and a bound that is broken one time in ten
    would seem broken nearly one time in five.
    """
    rng = np.random.default_rng(seed)
    broken, shares = 0, []
    for _ in range(splits):
        drawn = rows.take(rng.integers(0, len(rows), len(rows)))
        kept, share = outcome(rows, find_gate(drawn, terms))
        broken += kept < terms.keep
        shares.append(share)
        if advance is not None:
            advance(1)
    return Simulated(splits, broken / max(splits, 1), float(np.mean(shares or [0.0])))


def rows_needed(rows: Calibration, terms: Terms, seed: int = 0) -> tuple[int, float] | None:
    """About how many rows like these would buy a promise, and the share of cheaper models then.

    Larger samples are imitated by drawing from these with replacement. None: not even MOST_NEEDED.
    """
    if not _possible(rows, terms):
        return None
    rng = np.random.default_rng(seed)
    size = 32
    while size <= MOST_NEEDED:
        draws = (rng.integers(0, len(rows), size) for _ in range(_NEEDED_DRAWS))
        shares = [outcome(rows, find_gate(rows.take(drawn), terms))[1] for drawn in draws]
        middle = float(np.median(shares))
        if middle >= USEFUL_SHARE:
            return size, middle
        size = size * 4 // 3
    return None


def least_rows(terms: Terms) -> int | None:
    """How many rows it takes where cheaper models lose nothing at all: with fewer there is no
    promise on any data.
    """
    size = 8
    while size <= MOST_NEEDED:
        ones = np.ones(size)
        rows = Calibration(ones, ones[:, None], np.zeros((size, 1)), np.zeros(size))
        if find_gate(rows, terms) is not None:
            return size
        size = size * 9 // 8
    return None


def _possible(rows: Calibration, terms: Terms) -> bool:
    """Whether any threshold keeps enough on average and is of use: more rows can't help if none."""
    limit = float(np.quantile(rows.novelty, NOVELTY_QUANTILE))
    for steps in _blocks(rows):
        score, cheap = _sweep(rows, GRID[steps], limit)
        keeps = score.mean(axis=0) > terms.keep * rows.strong.mean()
        if (keeps & (cheap.mean(axis=0) >= USEFUL_SHARE)).any():
            return True
    return False


def _walk(rows: Calibration, terms: Terms, limit: float) -> float | None:
    """The last threshold of the grid before the first that does not pass."""
    last: float | None = None
    for steps in _blocks(rows):
        score, _ = _sweep(rows, GRID[steps], limit)
        losses = terms.keep * rows.strong[:, None] - score
        passed = BOUNDS[terms.bound](losses, terms.delta, *_range(terms))
        if not passed.all():
            failed = int(steps[np.argmin(passed)])
            # Between two changes the choices are the same, and so is the test.
            return float(GRID[failed - 1]) if passed[0] or last is not None else None
        last = float(GRID[-1])
    return last


def _sweep(
    rows: Calibration, thresholds: Array, novelty_limit: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Chosen scores and whether the choice is a cheaper model, both (n, T)."""
    familiar = (rows.novelty <= novelty_limit)[:, None]
    score = np.repeat(rows.strong[:, None], len(thresholds), axis=1)
    cheap = np.zeros(score.shape, dtype=np.bool_)
    # Last to first, so that the first one within the threshold has the last word.
    for at in range(rows.gains.shape[1] - 1, -1, -1):
        within = familiar & (rows.gains[:, at, None] <= thresholds)
        score = np.where(within, rows.cheaper[:, at, None], score)
        cheap |= within
    return score, cheap


def _blocks(rows: Calibration) -> Iterator[NDArray[np.intp]]:
    """Indices into the grid at which some choice changes, in order, some at a time."""
    changes = np.unique(np.searchsorted(GRID, rows.gains.ravel(), side="left"))
    changes = changes[changes < len(GRID)]
    for start in range(0, len(changes), _BLOCK):
        yield changes[start : start + _BLOCK]


def _range(terms: Terms) -> tuple[float, float]:
    """Z = x s - c with both scores in [0, 1], and c = s where the choice is the strong model."""
    return -1.0, terms.keep
