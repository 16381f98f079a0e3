"""Whether a ledger and the logs of the upstreams tell the same story: nothing twice, nothing lost.

Every request bears a mark in its text; its answer names the gateway's id of it, by which the ledger
has it. What the upstreams were asked under that mark has to be what the ledger says was asked.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.simulated.control import Control
from benchmarks.steady import Call

_MARK = re.compile(r"mark-\d{7}")
_LAST = 400
_NOT_SENT = {"connect_failed"}
"""Outcomes of attempts that no upstream can have seen."""
_PERHAPS_SENT = {"stale", "cancelled", "hedged_away"}
"""Outcomes of attempts that one may have seen."""


class UpstreamLogs:
    """What the upstreams have received, gathered before their own logs forget it."""

    def __init__(self, upstreams: Mapping[str, Control]) -> None:
        self._upstreams = upstreams
        self._seen: dict[tuple[str, int], dict[str, Any]] = {}

    def gather(self) -> None:
        """Blocking; what can't be reached now is asked the next time."""
        for name, upstream in self._upstreams.items():
            with suppress(OSError):
                for exchange in upstream.log(last=_LAST):
                    told = {key: exchange[key] for key in ("status", "finished_at")}
                    mark = _MARK.search(exchange["body"] or "")
                    told["mark"] = mark[0] if mark else ""
                    self._seen[name, exchange["number"]] = told

    def by_mark(self) -> dict[str, Counter[str]]:
        """How often each upstream was asked, by mark."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for (name, _), told in self._seen.items():
            found[told["mark"]][name] += 1
        return found

    @property
    def complete(self) -> bool:
        """Whether no exchange is missing between those that were seen."""
        last: dict[str, int] = defaultdict(int)
        for name, number in self._seen:
            last[name] = max(last[name], number)
        return len(self._seen) == sum(last.values())


@dataclass
class Comparison:
    """What does not fit, each list with the ids or marks of it; all empty where all is well."""

    good: int = 0
    rows: int = 0
    summed: int = 0
    """Requests in the sums of days."""
    costs_nano: tuple[int, int] = (0, 0)
    """Of the rows, and in the sums of days."""
    unseen: int = 0
    """Attempts that may have been charged for an answer of which nothing was seen: the ledger has
    an estimate of their input, budgets the most that they may have cost."""
    compared: int = 0
    """Marks whose attempts were held against the upstreams' logs."""
    without_row: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    """Marks of which more than one row says that it was served."""
    not_as_asked: list[str] = field(default_factory=list)
    """Marks of which the rows tell of other attempts than the upstreams do."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Booked, by outcome; `hedged_away` lost against another one beside them."""
    logs_complete: bool = True

    @property
    def well(self) -> bool:
        return (
            not (self.without_row or self.twice or self.not_as_asked)
            and self.logs_complete
            and self.rows == self.summed
            and self.costs_nano[0] == self.costs_nano[1]
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "well": self.well}


def compare(
    calls: Sequence[Call], rows: Sequence[Mapping[str, Any]], logs: UpstreamLogs
) -> Comparison:
    """Hold each call against the ledger's rows and against what the upstreams were asked.

    A try that was lost together with its gateway has no id: whether it was booked, and what was
    asked for it, can't be told, so its mark is only looked at for a second success.
    """
    told = Comparison(rows=len(rows), logs_complete=logs.complete)
    told.unseen = sum(
        one["estimated"] and not one["text_bytes"] for row in rows for one in row["attempts"]
    )
    told.attempts = dict(Counter(one["outcome"] for row in rows for one in row["attempts"]))
    by_id = {row["id"]: row for row in rows}
    asked = logs.by_mark()
    for call in calls:
        ids = [one.answer.request_id for one in call.tries if one.answer.request_id]
        good = [one.answer.request_id for one in call.tries if one.answer.good]
        told.good += len(good)
        told.without_row += [name for name in ids if name not in by_id and name in good]
        served = [name for name in ids if name in by_id and by_id[name]["outcome"] == "ok"]
        if len(served) > 1:
            told.twice.append(call.mark)
        if any(one.lost for one in call.tries) or not all(name in by_id for name in ids):
            continue
        told.compared += 1
        attempts = [one for name in ids for one in by_id[name]["attempts"]]
        if not _fits(attempts, asked.get(call.mark, Counter())):
            told.not_as_asked.append(call.mark)
    return told


def _fits(attempts: Sequence[Mapping[str, Any]], asked: Counter[str]) -> bool:
    """Whether these attempts are what the upstreams were asked: each once, and one went well."""
    sent = Counter(a["upstream"] for a in attempts if a["outcome"] not in _NOT_SENT)
    perhaps = Counter(a["upstream"] for a in attempts if a["outcome"] in _PERHAPS_SENT)
    names = {*sent, *asked}
    return all(sent[name] - perhaps[name] <= asked[name] <= sent[name] for name in names)


def add_sums(told: Comparison, ledger: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note what the sums of days say of the same rows."""
    with closing(sqlite3.connect(ledger, timeout=30)) as connection:
        summed, cost = connection.execute(
            "select sum(requests), sum(cost_nano) from daily"
        ).fetchone()
    told.summed = int(summed or 0)
    told.costs_nano = (sum(row["cost_nano"] or 0 for row in rows), int(cost or 0))
