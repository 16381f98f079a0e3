"""Fits the views that the stack weighs (`app.routing.estimators.views`): ridge heads on hashed
words and on the vector, and a discriminant of the tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.fit import FittedLengths, Vectors
from app.lab.methods.panels import Panel
from app.lab.outcomes import OutcomeTable
from app.routing.estimators.base import Array
from app.routing.estimators.views import Floats, Layout, NeighbourView, VectorView, join
from app.routing.estimators.words import (
    BITS,
    WordHasher,
    count_buckets,
    inverse_frequency,
    scalars,
)

VECTOR_PENALTY = 20.0
REST_PENALTY = 60.0
WORD_PENALTY = 3.0
FAMILIAR_PENALTY = 10.0
WORD_SCALARS = 0.15
"""Size of standardised scalars beside a unit row of words."""

TASK_SHRINKAGE = 0.05
TASK_ROWS, REST_ROWS = 5.0, 20.0
"""Rows' worth of the panel's mean that a task's own is shrunk by."""

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of n prompts: `rows` (n, 2**BITS) sparse, weighted and of unit length; `standard`
    (n, 26) scalars.
    """

    rows: Any
    standard: Floats
    idf: Floats
    scalar_mean: Floats
    scalar_scale: Floats


def read_texts(prompts: Sequence[str]) -> Texts:
    """Raises DataError where SciPy is missing."""
    sparse = require_scipy()
    hasher = WordHasher()
    hashes = [hasher.hashes(prompt) for prompt in prompts]
    counted = [count_buckets(each) for each in hashes]
    idf = inverse_frequency((buckets for buckets, _ in counted), len(prompts))
    starts = np.cumsum([0, *(len(buckets) for buckets, _ in counted)])
    columns = np.concatenate([buckets for buckets, _ in counted])
    values = np.concatenate([counts for _, counts in counted]) * idf[columns]
    rows = sparse.csr_matrix((values, columns, starts), shape=(len(prompts), 2**BITS))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    rows = sparse.diags_array(1.0 / np.maximum(lengths, 1e-12)).tocsr() @ rows
    standard, mean, scale = standard_scalars(prompts)
    return Texts(
        rows=rows.astype(np.float32),
        standard=standard,
        idf=idf,
        scalar_mean=mean,
        scalar_scale=scale,
    )


def standard_scalars(prompts: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """Scalars (n, 26) of mean 0 and spread 1, and the mean and scale (26,) that made them so."""
    shape = np.stack([scalars(prompt) for prompt in prompts])
    mean, scale = shape.mean(axis=0), np.maximum(shape.std(axis=0), 1e-3)
    return ((shape - mean) / scale).astype(np.float32), mean, scale


def require_scipy() -> Any:
    try:
        import sklearn.linear_model  # noqa: F401 - the ridge on words
        from scipy import sparse
    except ImportError as error:
        raise DataError(
            "this kind of estimator needs scipy and scikit-learn to be trained: "
            "pip install 'pointsman[lab]', or choose another --estimator"
        ) from error
    return sparse


@dataclass(frozen=True, slots=True)
class WordHeads:
    """`heads` (2**BITS + 26, h) on a row of words with the scalars beside it, and `bias` (h,)."""

    heads: Floats
    bias: Floats

    def of(self, texts: Texts, rows: NDArray[np.intp]) -> Floats:
        """(n, h)"""
        words, shape = self.heads[: 2**BITS], self.heads[2**BITS :]
        by_scalars = WORD_SCALARS * texts.standard[rows] @ shape
        return np.asarray(texts.rows[rows] @ words + by_scalars + self.bias, dtype=np.float32)


def fit_word_heads(
    texts: Texts,
    panels: Sequence[Panel],
    layout: Layout,
    rows: NDArray[np.bool_],
    lengths: Array,
) -> WordHeads:
    """On these rows: departures, membership of each panel, the log of the relative length, which is
    nan in `lengths` where it is not known, and familiarity.

    Familiarity is a ridge from words to 1 for every prompt, without a constant: words that no
    prompt leans on add nothing, so what these prompts are not like stays near 0. Counting known
    words does not tell: "how are you" is made of nothing else.
    """
    members = np.zeros((len(rows), len(panels)))
    for at, panel in enumerate(panels):
        members[panel.rows, at] = 1.0
    places = layout.words
    heads = np.zeros((2**BITS + texts.standard.shape[1], places.total), dtype=np.float32)
    bias = np.zeros(places.total, dtype=np.float32)

    def fit(chosen: NDArray[np.intp], targets: Array, into: slice | list[int]) -> None:
        if len(chosen):
            heads[:, into], bias[into] = _ridge_on_words(texts, chosen, targets)

    for at, panel in enumerate(panels):
        inside = rows[panel.rows]
        fit(panel.rows[inside], panel.factors[inside], layout.of(at))
    everywhere = np.flatnonzero(rows)
    fit(everywhere, members[everywhere], places.members)
    measured = np.flatnonzero(rows & ~np.isnan(lengths))
    fit(measured, lengths[measured][:, None], [places.length])
    heads[: 2**BITS, places.familiar] = _familiarity(texts, everywhere)
    return WordHeads(heads, bias)


def _ridge_on_words(texts: Texts, rows: NDArray[np.intp], targets: Array) -> tuple[Floats, Floats]:
    from scipy import sparse
    from sklearn.linear_model import Ridge

    inputs = sparse.hstack(
        [texts.rows[rows], sparse.csr_matrix(WORD_SCALARS * texts.standard[rows])], format="csr"
    )
    ridge = Ridge(alpha=WORD_PENALTY, solver="sparse_cg", tol=1e-3).fit(
        inputs.astype(np.float64), targets
    )
    return np.atleast_2d(ridge.coef_).T.astype(np.float32), np.atleast_1d(ridge.intercept_)


def _familiarity(texts: Texts, rows: NDArray[np.intp]) -> Floats:
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=FAMILIAR_PENALTY, solver="sparse_cg", tol=1e-3, fit_intercept=False)
    ridge.fit(texts.rows[rows].astype(np.float64), np.ones(len(rows)))
    return np.asarray(ridge.coef_, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class VectorHeads:
    """The vector's view, and by vector and by task what is special to single models: `rest_heads`
    (d + 26, m), `rest_bias` (m,), `rest_tasks` (t, m), for the m models of all panels.
    """

    view: VectorView
    rest_heads: Floats
    rest_bias: Floats
    rest_tasks: Floats


def fit_vector_heads(
    inputs: Floats,
    tasks: NDArray[np.intp],
    panels: Sequence[Panel],
    rests: Sequence[Array],
    layout: Layout,
    rows: NDArray[np.bool_],
) -> VectorHeads:
    """On these rows of `inputs` (n, d + 26). `tasks` (n,) are codes; `rests` of each panel (its
    rows, its models) are what its directions leave of the departures.
    """
    count = int(tasks.max()) + 1
    discriminant, odds = _discriminant(inputs[rows], tasks[rows], count)
    own: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    special: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for panel, rest in zip(panels, rests, strict=True):
        inside = rows[panel.rows]
        chosen = panel.rows[inside]
        here = inputs[chosen].astype(np.float64)
        for targets, penalty, shrunk, into in (
            (panel.factors[inside], VECTOR_PENALTY, TASK_ROWS, own),
            (rest[inside], REST_PENALTY, REST_ROWS, special),
        ):
            weights, constant = ridge(here, targets, penalty)
            into[0].append(weights)
            into[1].append(constant)
            into[2].append(_by_task(tasks[chosen], targets, count, shrunk))
    heads, bias, task_departures = (np.hstack(each).astype(np.float32) for each in own)
    rest_heads, rest_bias, rest_tasks = (np.hstack(each).astype(np.float32) for each in special)
    return VectorHeads(
        VectorView(heads, bias, discriminant, odds, task_departures),
        rest_heads,
        rest_bias,
        rest_tasks,
    )


def ridge(inputs: Array, targets: Array, penalty: float) -> tuple[Array, Array]:
    """Weights (d, s) and bias (s,), which is not penalised."""
    centre, mean = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - centre
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += penalty
    weights = np.linalg.solve(gram, centred.T @ (targets - mean))
    return weights, np.asarray(mean - centre @ weights)


def _discriminant(inputs: Floats, tasks: NDArray[np.intp], count: int) -> tuple[Floats, Floats]:
    """Fisher's linear discriminant: log-odds of the tasks are inputs @ weights + bias, but for a
    constant. A task without rows has next to no chance.
    """
    rows = np.bincount(tasks, minlength=count)
    means = np.zeros((count, inputs.shape[1]))
    np.add.at(means, tasks, inputs.astype(np.float64))
    means /= np.maximum(rows, 1)[:, None]
    within = inputs - means[tasks]
    spread = within.T @ within / len(inputs)
    usual = np.trace(spread) / len(spread)
    spread = (1.0 - TASK_SHRINKAGE) * spread + TASK_SHRINKAGE * usual * np.eye(len(spread))
    weights = np.linalg.solve(spread, means.T)
    share = np.log(np.maximum(rows, 1e-6) / len(inputs))
    bias = share - 0.5 * np.einsum("td,dt->t", means, weights)
    return weights.astype(np.float32), bias.astype(np.float32)


def _by_task(tasks: NDArray[np.intp], values: Array, count: int, shrunk: float) -> Array:
    """Each task's mean, (count, columns), shrunk to 0: departures have no mean of their own."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, tasks, values)
    return np.asarray(sums / (np.bincount(tasks, minlength=count) + shrunk)[:, None])


def features_of(
    view: VectorView,
    neighbours: NeighbourView,
    by_words: Floats,
    inputs: Floats,
    standard: Floats,
    near: NDArray[Any],
    similarities: Floats,
) -> tuple[Floats, Floats]:
    """Features (n, f) and task shares (n, t) of n prompts with their neighbours (n, k)."""
    parts, shares = [], []
    for start in range(0, len(inputs), _ROWS_AT_ONCE):
        at = slice(start, start + _ROWS_AT_ONCE)
        by_vector = view.departures(inputs[at])
        tasks = view.task_shares(inputs[at])
        parts.append(
            join(
                by_vector,
                by_words[at],
                *neighbours.look(near[at], similarities[at], by_vector),
                tasks @ view.task_departures,
                standard[at],
            )
        )
        shares.append(tasks)
    return np.concatenate(parts).astype(np.float32), np.concatenate(shares)


def relative_lengths(table: OutcomeTable, lengths: FittedLengths) -> Array:
    """Log of how long each row's answers are, relative to the usual answers of the same models;
    (n,), nan where no length is known.
    """
    usual = lengths.wordiness.astype(np.float64) * lengths.overall
    known = ~np.isnan(table.output_tokens) & np.isfinite(usual)
    ratio = np.where(known, table.output_tokens / np.where(np.isfinite(usual), usual, 1.0), 0.0)
    count = known.sum(axis=1)
    mean = ratio.sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, np.log(np.maximum(mean, 1e-3)), np.nan)


def vectors_with_scalars(vectors: Vectors, texts: Texts) -> Floats:
    return VectorView.inputs(vectors, texts.standard)
