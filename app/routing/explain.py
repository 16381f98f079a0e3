"""A decision in words and figures, for `/v1/decision` and `pointsman route`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.catalog.model import Model
from app.exchange.money import usd_text
from app.routing.decision import Decision, obstacles
from app.routing.estimators.base import Neighbour
from app.routing.facts import Facts
from app.routing.objective import Option

REASONS = {
    "meets_bar": "the cheapest candidate that is above the bar with the confidence asked for",
    "best_quality": "no cheaper candidate is above the bar with the confidence asked for",
    "most_value": "quality times the worth of a right answer, less the cost, is highest",
    "win_rate_reached": "the strong model's win rate reaches the threshold",
    "win_rate_below": "the strong model's win rate is below the threshold",
    "promise_cheap": "its predicted loss is within what the promise allows",
    "promise_strong": "no cheaper candidate's predicted loss is within what the promise allows",
    "promise_novel": "unlike the calibration data, so the strong model is taken",
    "promise_void": "the strong model can't serve this request: the guarantee does not cover it, "
    "and the best candidate is taken",
    "budget_worth": "quality times what a right answer may cost now, less the cost, is highest",
    "budget_slack": "the budget is not used up: the best candidate is taken",
    "only_candidate": "only one candidate can serve this request",
    "only_fallbacks": "no candidate can serve this request, a fallback can",
    "prediction_failed": "prediction failed; the baseline, or else the dearest that can, is safe",
    "pinned": "the request names this model",
    "prompt_cache": "a cheaper model would save less over the rest of the conversation than the "
    "prompt cache that is lost",
    "escalated": "tool results keep failing, so the next stronger candidate takes over",
    "stays_escalated": "the conversation was moved to this model as tool results kept failing",
    "cache_exact": "the same was asked before, and the answer kept",
    "cache_similar": "a question of the same meaning was asked before, and the answer kept",
}
"""Every reason a decision can have: a closed vocabulary, also a metric label."""


def explain(
    decision: Decision, facts: Facts, neighbours: Sequence[Neighbour] = ()
) -> dict[str, Any]:
    """A JSON-ready account of a decision."""
    return {
        "object": "decision",
        "route": decision.route_name,
        "model": decision.chosen.name,
        "decision": decision.kind,
        "reason": decision.reason,
        "explanation": REASONS[decision.reason],
        "plan": [model.name for model in decision.plan],
        "baseline": decision.baseline.name if decision.baseline else None,
        "objective": decision.route.objective.describe() if decision.route else None,
        "speed": decision.speed,
        "encode": decision.route.encode if decision.route else None,
        "novelty": _rounded(decision.novelty),
        "facts": {
            "instruction_characters": len(facts.instruction),
            "input_tokens": facts.input_tokens,
            "max_output_tokens": facts.max_output,
            "needs": sorted(facts.needs),
            "user_turns": facts.turns,
            "tool_results": facts.tool_results,
        },
        "candidates": _candidates(decision, facts),
        "neighbours": [told_neighbour(one) for one in neighbours],
    }


def told_neighbour(neighbour: Neighbour) -> dict[str, Any]:
    """A past prompt by its id and task, and how well models did on it; JSON-ready."""
    return {
        "id": neighbour.id,
        "task": neighbour.task,
        "similarity": round(neighbour.similarity, 4),
        "scores": {name: _rounded(score) for name, score in neighbour.scores.items()},
    }


def _candidates(decision: Decision, facts: Facts) -> list[dict[str, Any]]:
    if decision.options:
        return [_predicted(option) for option in decision.options]
    models = decision.route.candidates if decision.route else decision.plan
    return [_unpredicted(model, facts) for model in models]


def _predicted(option: Option) -> dict[str, Any]:
    return {
        "model": option.model.name,
        "eligible": option.eligible,
        "reasons": list(option.reasons),
        "quality": _rounded(option.quality),
        "quality_low": _rounded(option.low),
        "quality_high": _rounded(option.high),
        "quality_doubt": _rounded(option.doubt),
        "expected_output_tokens": round(option.output_tokens),
        "expected_cost_usd": None if option.cost is None else usd_text(option.cost),
    }


def _unpredicted(model: Model, facts: Facts) -> dict[str, Any]:
    reasons = obstacles(model, facts)
    return {"model": model.name, "eligible": not reasons, "reasons": list(reasons)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
