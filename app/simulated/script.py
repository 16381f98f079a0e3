"""The programme of an upstream: behaviours that wait in line, and those that stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.simulated.behaviour import Behaviour, behaviour_from_json, is_whole
from app.simulated.refusal import RequestRefused

ANY_MODEL = "*"


@dataclass(slots=True)
class _Entry:
    model: str
    behaviour: Behaviour
    written: dict[str, Any]
    left: int | None
    """How many more requests it answers; None for a standing one."""


class Script:
    """Queued behaviours are used first, in order of arrival; then the latest standing one.

    A behaviour for a model's own name goes before one for every model.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, written: Any) -> None:
        """Add one `{"model", "behaviour", "times"}` or a list; on an error nothing is added."""
        items = written if isinstance(written, list) else [written]
        self._entries.extend([_entry(item) for item in items])

    def clear(self) -> None:
        self._entries.clear()

    def take(self, model: str) -> Behaviour | None:
        """The behaviour for the next request to a model, used up by one."""
        if not self._entries:
            return None
        for name in (model, ANY_MODEL):
            entry = self._next(name)
            if entry is not None:
                self._use(entry)
                return entry.behaviour
        return None

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"model": entry.model, "behaviour": entry.written, "times": entry.left}
            for entry in self._entries
        ]

    def _next(self, name: str) -> _Entry | None:
        mine = [entry for entry in self._entries if entry.model == name]
        queued = [entry for entry in mine if entry.left is not None]
        if queued:
            return queued[0]
        return mine[-1] if mine else None

    def _use(self, entry: _Entry) -> None:
        if entry.left is None:
            return
        entry.left -= 1
        if entry.left == 0:
            self._entries.remove(entry)


def _entry(item: Any) -> _Entry:
    if not isinstance(item, dict):
        raise RequestRefused("A script entry must be an object.", param="script")
    unknown = set(item) - {"model", "behaviour", "times"}
    if unknown:
        raise RequestRefused(f"'{min(unknown)}' is not known.", param=min(unknown))
    model, times = item.get("model", ANY_MODEL), item.get("times")
    if not isinstance(model, str):
        raise RequestRefused("'model' must be a string.", param="model")
    if times is not None and not is_whole(times, 1):
        raise RequestRefused("'times' must be an integer >= 1, or null.", param="times")
    written = item.get("behaviour")
    behaviour = behaviour_from_json(written, "behaviour")
    return _Entry(model, behaviour, written or {}, times)
