"""The objective that keeps a calibrated promise: as cheap as it allows, else the strong model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.catalog.model import Model
from app.catalog.prices import today
from app.errors import ArtifactError
from app.routing.artifact import Artifact
from app.routing.objective import Choice, Option
from app.routing.promise import Promise, best_promise


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Chooses exactly as the calibration did; `promise` says how.

    `strong` and `weak` are candidates of the route, in the promise's order, which stands for their
    prices: expected costs of single requests are not looked at. What can't serve a request falls
    out; where that is the strong model, the promise says nothing and the best candidate is taken.
    """

    promise: Promise
    strong: str
    weak: tuple[str, ...]
    confidence: float = 0.6

    def choose(self, options: Sequence[Option], novelty: float = 0.0) -> Choice:
        by_name: Mapping[str, Option] = {option.model.name: option for option in options}
        rest = sorted(options, key=lambda option: (-option.quality, option.price_rank))
        strong = by_name.get(self.strong)
        if strong is None:
            return Choice(tuple(rest), "promise_void")
        if novelty > self.promise.novelty_limit:
            # Only ever raises the quality kept: a request that goes to the strong model loses none.
            return _first(strong, strong, rest, "promise_novel")
        for name in self.weak:
            option = by_name.get(name)
            if option and strong.quality - option.quality <= self.promise.threshold:
                return _first(option, strong, rest, "promise_cheap")
        return _first(strong, strong, rest, "promise_strong")

    def describe(self) -> dict[str, object]:
        promise = self.promise
        return {
            "kind": "guarantee",
            "keep": promise.keep,
            "delta": promise.delta,
            "strong": self.strong,
            "weak": list(self.weak),
            "threshold": promise.threshold,
            "novelty_limit": promise.novelty_limit,
            "bound": promise.bound,
            "calibration_prompts": promise.n,
            "calibration_sources": list(promise.sources),
            "calibrated": promise.date,
            "expected_weak_share": round(promise.weak_share, 4),
            "promise": (
                f"Mean quality is at least {promise.keep:g} of {self.strong}'s, with confidence "
                f"{1 - promise.delta:g}, for traffic like the calibration data; not for any single "
                "request, nor for other traffic."
            ),
        }


def _first(option: Option, second: Option, rest: Sequence[Option], reason: str) -> Choice:
    head = (option,) if option is second else (option, second)
    return Choice((*head, *(o for o in rest if o is not option and o is not second)), reason)


def known_names(candidates: Sequence[Model], artifact: Artifact) -> dict[str, str]:
    """The router's name for each candidate, by its own. A promise is about models with outcomes, so
    a route that has one binds its estimator to these names: calibrated is what is served.

    Raises ArtifactError where the router has no outcomes of a candidate, or takes two for one.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for model in candidates:
        known = artifact.knows(model.name) or (artifact.knows(model.like) if model.like else None)
        if known is None:
            raise ArtifactError(
                f"no guarantee can cover `{model.name}`: the router has no outcomes of it; give it "
                "`like:`, or take it out of the candidates"
            )
        if known in taken:
            raise ArtifactError(
                f"`{taken[known]}` and `{model.name}` are both {known} to the router; make one a "
                "fallback"
            )
        names[model.name] = known
        taken[known] = model.name
    return names


def guarantee(
    candidates: Sequence[Model], strong: Model, keep: float, delta: float, artifact: Artifact
) -> Guarantee:
    """The objective by the promise that was calibrated for these candidates.

    Raises ArtifactError, with the command to run, where there is none.
    """
    names = known_names(candidates, artifact)
    if strong.name not in names:
        raise ArtifactError(f"`{strong.name}` is not a candidate; name the `strong` one")
    weak = sorted((m for m in candidates if m.name != strong.name), key=_price)
    if not weak:
        raise ArtifactError(f"there is no other candidate than `{strong.name}`, the strong one")
    known = [names[model.name] for model in weak]
    promise = best_promise(artifact.guarantees, names[strong.name], known, keep, delta)
    if promise is None:
        raise ArtifactError(
            f"the router holds no promise for these candidates at keep {keep:g}, delta {delta:g}; "
            f"run `pointsman calibrate --router {artifact.directory} --data FILES "
            f"--strong {names[strong.name]} --weak {','.join(known)} --keep {keep:g} "
            f"--delta {delta:g}`"
        )
    own = {known: name for name, known in names.items()}
    return Guarantee(promise, strong.name, tuple(own[each] for each in promise.weak))


def _price(model: Model) -> float:
    """What is not priced comes last."""
    prices = model.prices and model.prices.on(today())
    return prices.input + prices.output if prices else math.inf
