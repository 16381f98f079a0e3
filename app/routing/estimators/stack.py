"""The stack: several views of a prompt, weighed against each other by what they were worth on
prompts they had not seen.

For each panel of models the views (`views`) say how the prompt's scores will depart from the
models' means. Boosted trees and a linear stack, fitted out of fold, make one prediction of them; a
panel's models share it, so the difference between two of them, which is what routing decides by,
rests on prompts that both answered. What is special to single models beyond that, by kind of task
and by vector, is added with weights fitted the same way, and the level is calibrated (isotonic
regression). Difficulty learned on one panel is an input for all others.

The words have a stack of their own: without the vector it decides in tens of microseconds, and
knows by how much the full one usually differs from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import Standing, log_odds_of, sigmoid
from app.routing.estimators.knn import MISSING
from app.routing.estimators.levels import around, calibrated
from app.routing.estimators.method import Known, Near, Read
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.trees import Trees
from app.routing.estimators.views import (
    Floats,
    Layout,
    NeighbourView,
    VectorView,
    WordView,
    join,
    load_vector,
    load_words,
    nearest_votes,
)
from app.routing.estimators.words import WordHasher

ALONE = 0.05
"""A prompt of a panel that one candidate was scored on counts this much, one that two were counts 1
more: differences rest on models seen side by side.
"""

ELSEWHERE = 0.1
"""How much a panel's other prompts count beside those near: candidates compared on other prompts
say more than one of them alone on these.
"""


@dataclass(frozen=True, slots=True)
class Combiner:
    """Features (f,) to departures (s',): trees and a linear stack, each weighted already.

    For each departure the line sees features as far as its panel's did: between `low` and `high`,
    (s', f). Trees end by themselves.
    """

    trees: Trees
    linear: Floats
    bias: Floats
    low: Floats
    high: Floats

    def departures(self, features: Floats) -> Array:
        held = np.clip(features, self.low, self.high)
        line = np.einsum("of,of->o", held, self.linear) + self.bias
        return np.asarray(self.trees.predict(features) + line)


@dataclass(frozen=True, slots=True)
class Finish:
    """From departures to the candidates of a panel: `mean` (m,), `directions` (m, 1 + k), and
    calibration `curves` (m, KNOTS).
    """

    mean: Array
    directions: Array
    curves: Array

    def quality(self, departures: Array, own: Array | float = 0.0) -> Array:
        raw = self.mean + self.directions @ departures + own
        # Curves differ between models, so what is common to them would leak into their difference:
        # the calibrated level is kept, and the difference stays as it was predicted.
        return around(float(calibrated(self.curves, raw).mean()), raw)


@dataclass(frozen=True, slots=True)
class PanelWords:
    """What a panel makes of the words, for the m candidates it knows, at `places` among all."""

    panel: int
    places: NDArray[np.intp]
    combiner: Combiner
    finish: Finish
    doubt: Array
    worth: Floats
    """(rows,) by how many of the candidates each prompt of the panel compares; 0 for others."""
    usual_worth: float
    """Its mean over the panel's prompts."""


@dataclass(frozen=True, slots=True)
class PanelViews:
    """What it makes of all views. `rest_heads` (d + 26, m), `rest_bias` (m,) and `rest_tasks`
    (t, m) tell by vector and by task what is special to the models.
    """

    combiner: Combiner
    finish: Finish
    rest_heads: Floats
    rest_bias: Floats
    rest_tasks: Floats


class WordStack:
    """The words' stack, bound to a route's candidates. It never looks at a vector, and knows
    nothing of a model without a panel.
    """

    def __init__(
        self,
        panels: Sequence[PanelWords],
        *,
        count: int,
        layout: Layout,
        words: WordView,
        overall: Array,
        novelty: NoveltyScale,
    ) -> None:
        """`overall` (M,) places candidates that a panel lacks."""
        self._panels = tuple(panels)
        self._doubts = tuple(_doubt(panel, count) for panel in panels)
        self._count = count
        self._layout = layout
        self._words = words
        self._hasher = WordHasher()
        self._seen: tuple[str, Floats, Floats] | None = None
        self._overall = overall
        self._novelty = novelty

    def quality(self, near: Near) -> Array:
        return self.read(near.text).quality

    def read(self, text: str) -> Read:
        outputs, standard = self._look(text)
        places = self._layout.words
        quality = doubt = np.full(self._count, np.nan)
        if self._panels:
            shares = np.maximum(outputs[places.members], 0.0)
            chosen = self._choose([float(shares[p.panel]) * p.usual_worth for p in self._panels])
            each = self._panels[chosen]
            features = np.concatenate((outputs[places.departures], standard))
            found = each.finish.quality(each.combiner.departures(features))
            quality = self._with_others(each.places, found, self._overall)
            doubt = self._doubts[chosen]
        return Read(
            quality=quality,
            doubt=doubt,
            length=float(np.exp(min(max(outputs[places.length], -2.0), 2.0))),
            novelty=self._novelty.place(float(outputs[places.familiar])),
        )

    def _look(self, text: str) -> tuple[Floats, Floats]:
        """What the words say, and scalars. A text that the words left unclear comes again at once,
        with its vector: it is not read twice.
        """
        if self._seen is None or self._seen[0] != text:
            self._seen = (text, *self._words.read(text, self._hasher.hashes(text)))
        return self._seen[1:]

    def _choose(self, near: Sequence[float]) -> int:
        """Which of the panels bound to ask, from how much those prompts of each that are like this
        one compare the candidates.

        One is asked and not the mean of all: on prompts unlike its own a panel's differences are
        extrapolated, on a scale of their own, and a few of them spoil the others' ranking.
        """
        worth = [
            here + ELSEWHERE * panel.usual_worth
            for here, panel in zip(near, self._panels, strict=True)
        ]
        return int(np.argmax(worth))

    def _with_others(self, places: NDArray[np.intp], found: Array, usual: Array) -> Array:
        """The panel's qualities, and for a candidate that it lacks one that is as far from its
        `usual` quality, in log-odds, as the others are from theirs.
        """
        if len(places) == self._count:
            return found
        odds = log_odds_of(usual)
        whole = sigmoid(odds + (log_odds_of(found) - odds[places]).mean())
        whole[places] = found
        return whole


class Stack(WordStack):
    """All views where there is a vector, the words' stack where there is none."""

    def __init__(
        self,
        panels: Sequence[PanelWords],
        views: Sequence[PanelViews],
        *,
        vector: VectorView,
        neighbours: NeighbourView,
        cluster_quality: Array,
        **common: Any,
    ) -> None:
        """`cluster_quality` (clusters, M) is the usual quality by kind of prompt."""
        super().__init__(panels, **common)
        self._views = tuple(views)
        self._vector = vector
        self._neighbours = neighbours
        self._cluster_quality = cluster_quality

    def quality(self, near: Near) -> Array:
        if not self._panels:
            return np.full(self._count, np.nan)
        votes, rows = nearest_votes(near.rows, near.similarities)
        chosen = self._choose([float(votes @ panel.worth[rows]) for panel in self._panels])
        each, places = self._views[chosen], self._panels[chosen].places
        outputs, standard = self._look(near.text)
        inputs = self._vector.inputs(near.vector, standard)
        by_vector = self._vector.departures(inputs)
        tasks = self._vector.task_shares(inputs)
        features = join(
            by_vector,
            outputs[self._layout.words.departures],
            *self._neighbours.look(near.rows, near.similarities, by_vector),
            tasks @ self._vector.task_departures,
            standard,
        )
        own = inputs @ each.rest_heads + each.rest_bias + tasks @ each.rest_tasks
        found = each.finish.quality(each.combiner.departures(features), own)
        return self._with_others(places, found, near.shares @ self._cluster_quality)


def _doubt(panel: PanelWords, count: int) -> Array:
    """Of all candidates: one that the panel lacks is as doubtful as its most doubtful one."""
    doubt = np.full(count, panel.doubt.max())
    doubt[panel.places] = panel.doubt
    return doubt


def bind_text(known: Known, standings: Sequence[Standing]) -> WordStack:
    return WordStack(_panels_by_words(known, standings), **_common(known, standings))


def bind_stack(known: Known, standings: Sequence[Standing]) -> Stack:
    arrays, layout = known.arrays, _layout(known)
    views = [
        PanelViews(
            combiner=_combiner(arrays, "full", layout, panel),
            finish=_finish(arrays, "full", layout, panel, models),
            rest_heads=_of_models(arrays["rest_heads"], models),
            rest_bias=_of_models(arrays["rest_bias"], models),
            rest_tasks=_of_models(arrays["rest_tasks"], models),
        )
        for panel, _, models in _places(known, standings)
    ]
    return Stack(
        _panels_by_words(known, standings),
        views,
        vector=load_vector(arrays),
        neighbours=NeighbourView.of(arrays["row_departures"], arrays["row_members"], layout),
        cluster_quality=known.prior(standings).quality,
        **_common(known, standings),
    )


def _common(known: Known, standings: Sequence[Standing]) -> dict[str, Any]:
    return {
        "count": len(standings),
        "layout": _layout(known),
        "words": load_words(known.arrays),
        "overall": known.prior(standings).overall,
        "novelty": NoveltyScale(**known.settings["word_novelty"]),
    }


def _panels_by_words(known: Known, standings: Sequence[Standing]) -> list[PanelWords]:
    arrays, layout = known.arrays, _layout(known)
    scored = known.scores_of(standings) != MISSING
    found = []
    for panel, places, models in _places(known, standings):
        members = arrays["row_members"][:, panel] > 0
        count = scored[:, places].sum(axis=1)
        worth = np.where(members & (count > 0), count - 1 + ALONE, 0.0).astype(np.float32)
        found.append(
            PanelWords(
                panel=panel,
                places=places,
                combiner=_combiner(arrays, "words", layout, panel),
                finish=_finish(arrays, "words", layout, panel, models),
                doubt=arrays["doubt"][models].astype(np.float64),
                worth=worth,
                usual_worth=float(worth[members].mean()),
            )
        )
    return found


def _layout(known: Known) -> Layout:
    return Layout(
        starts=tuple(known.settings["starts"]),
        models=tuple(tuple(models) for models in known.settings["models"]),
    )


def _places(
    known: Known, standings: Sequence[Standing]
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """The panels that know a candidate: number, places of those it knows among the candidates, and
    their places among the models of all panels.
    """
    columns = known.columns(standings)
    offset = 0
    for panel, models in enumerate(_layout(known).models):
        places = np.array([at for at, c in enumerate(columns) if c in models], dtype=np.intp)
        if len(places):
            inside = np.array([models.index(int(columns[at])) for at in places], dtype=np.intp)
            yield panel, places, inside + offset
        offset += len(models)


def _combiner(
    arrays: Mapping[str, NDArray[Any]], kind: str, layout: Layout, panel: int
) -> Combiner:
    inside = layout.of(panel)
    trees = [arrays[f"{kind}_{name}"] for name in ("features", "thresholds", "leaves")]
    return Combiner(
        Trees.select(trees, range(inside.start, inside.stop)),
        *line_of(arrays, kind, inside),
    )


def line_of(
    arrays: Mapping[str, NDArray[Any]], kind: str, outputs: slice | NDArray[np.intp]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Weights (s', f), bias, and what features are held between, of these outputs."""
    return (
        np.ascontiguousarray(arrays[f"{kind}_linear"][:, outputs].T, dtype=np.float32),
        np.asarray(arrays[f"{kind}_bias"][outputs]),
        np.ascontiguousarray(arrays[f"{kind}_low"][outputs]),
        np.ascontiguousarray(arrays[f"{kind}_high"][outputs]),
    )


def _finish(
    arrays: Mapping[str, NDArray[Any]],
    kind: str,
    layout: Layout,
    panel: int,
    models: NDArray[np.intp],
) -> Finish:
    inside = layout.of(panel)
    return Finish(
        arrays["model_means"][models].astype(np.float64),
        arrays["model_directions"][models][:, : inside.stop - inside.start].astype(np.float64),
        arrays[f"{kind}_curves"][models].astype(np.float64),
    )


def _of_models(array: NDArray[Any], models: NDArray[np.intp]) -> Floats:
    return np.ascontiguousarray(array[..., models], dtype=np.float32)
