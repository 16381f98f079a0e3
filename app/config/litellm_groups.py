"""A model group of LiteLLM's, entries that share a name, as one model with its deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_LIMITS = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "max_parallel_requests": "parallel_requests",
}
BALANCE = {
    "simple-shuffle": "weighted",
    "least-busy": "least-busy",
    "latency-based-routing": "least-latency",
}
"""Routing strategies that have their like here."""

Note = Callable[[str], None]


class Entry(NamedTuple):
    """Of an entry of `model_list`: where it is served, and what the model is."""

    placed: dict[str, Any]
    model: dict[str, Any]


def deployment(
    upstream: str, model_id: str, parameters: Mapping[str, Any], note: Note
) -> dict[str, Any]:
    """Where a model is served, and how much it may be sent there."""
    made: dict[str, Any] = {"upstream": upstream, "id": model_id}
    limits = {}
    for theirs, ours in _LIMITS.items():
        if (limit := parameters.get(theirs)) is None:
            continue
        if type(limit) is int and limit > 0:
            limits[ours] = limit
        else:
            note(f"`litellm_params.{theirs}` is no whole number above 0")
    if limits:
        made["limits"] = limits
    weight, order = parameters.get("weight"), parameters.get("order")
    if isinstance(weight, int | float) and not isinstance(weight, bool) and weight >= 0:
        made["weight"] = weight
    if isinstance(order, int) and not isinstance(order, bool) and order >= 0:
        made["priority"] = order
    return made


def model_of(
    entries: Sequence[Entry], strategy: object, capabilities: Sequence[str], note: Note
) -> dict[str, Any]:
    """The model of a group: what its deployments have in common, and themselves. `capabilities`
    are all there are, in order.
    """
    places: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        place = (entry.placed["upstream"], entry.placed["id"])
        if place in places:
            note(f"{place[1]} at {place[0]} stands there twice")
        places.setdefault(place, entry)
    kept = list(places.values())
    made: dict[str, Any] = {}
    prices = [entry.model.get("prices") for entry in kept]
    if any(one != prices[0] for one in prices):
        for entry, priced in zip(kept, prices, strict=True):
            if priced is not None:
                entry.placed["prices"] = priced
    elif prices[0] is not None:
        made["prices"] = prices[0]
    for key in ("context_window", "max_output"):
        # The least, as any of them may be asked.
        if sizes := [entry.model[key] for entry in kept if key in entry.model]:
            made[key] = min(sizes)
    if made.get("max_output", 0) > made.get("context_window", made.get("max_output", 0)):
        del made["max_output"]
    if told := [entry.model["capabilities"] for entry in kept if "capabilities" in entry.model]:
        made["capabilities"] = [each for each in capabilities if all(each in one for one in told)]
    first = kept[0].placed
    if len(kept) == 1 and first.keys() == {"upstream", "id"}:
        return {**first, **made}
    balance = BALANCE.get(str(strategy), "weighted")
    if len(kept) > 1 and balance != "weighted":
        made["balance"] = balance
    return {"deployments": [entry.placed for entry in kept], **made}
