"""Whether a choice made from a prompt's words alone can stand, or its vector should be asked too.

Encoding costs a hundred times what all the rest of routing does, and would leave most choices as
they are. So the question is not how sure the estimate is, but whether what encoding might still
change could change the choice. It is put to the objective itself, so it holds for any.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.routing.decision import Decision
from app.routing.objective import Option

FAMILIAR = 0.5
"""In prompts more novel than this the words are not to be trusted: what they meant in the outcomes
need not be what they mean here."""


def clear(decision: Decision) -> bool:
    """Whether the first choice stays when the quality of any one candidate moves up or down by the
    route's margin x its doubt, in a prompt that is not novel.

    True where nothing more can be learned. Tens of microseconds for six candidates.
    """
    route = decision.route
    able = [option for option in decision.options if option.eligible]
    if route is None or len(able) < 2 or all(option.doubt is None for option in able):
        return True
    if decision.novelty is None or decision.novelty > FAMILIAR:
        return False
    choose, novelty = route.objective.choose, decision.novelty
    return all(
        choose(moved, novelty).order[0].model is decision.chosen
        for moved in _moved(able, decision, route.margin.value)
    )


def _moved(able: list[Option], decision: Decision, margin: float) -> Iterator[list[Option]]:
    """The options with one of them moved, in each way that could change the choice."""
    for at, option in enumerate(able):
        reach = margin * (option.doubt or 0.0)
        if reach == 0.0:
            continue
        # The first choice stays when it gets better, and the only other one can't win by getting
        # worse. Among more than two it can: a lower best lowers the bar.
        if option.model is decision.chosen:
            steps: tuple[float, ...] = (-reach,)
        else:
            steps = (reach,) if len(able) == 2 else (reach, -reach)
        for step in steps:
            moved = able.copy()
            moved[at] = _shifted(option, step)
            yield moved


def _shifted(option: Option, by: float) -> Option:
    return Option(
        option.model,
        _in_range(option.quality + by),
        _in_range(option.low + by),
        _in_range(option.high + by),
        option.output_tokens,
        option.cost,
    )


def _in_range(quality: float) -> float:
    return min(max(quality, 0.0), 1.0)
