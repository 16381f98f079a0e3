"""The seam to shared counters: take from all limits of a request at once, or from none.

Three forms of counter serve every limit. *Money* adds up over a period; what is reserved counts as
spent until it is settled, so a process that dies leaves too much counted and never too little.
*Rates* are leaky buckets: what was taken flows back at a sixtieth of the ceiling a second, so up to
a whole minute's worth may come at once. *Slots* are counted while a request runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["usd", "requests", "tokens", "parallel"]

NEVER = float("inf")
"""The wait for what no waiting helps: more is asked than the limit ever allows."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One ceiling. `key` names its counter, the same in every process.

    `ceiling` is in nano-dollars, per minute, or at once. `until` is when the period of a sum of
    money is over, in seconds since the epoch; None where it has no end.
    """

    kind: Kind
    key: str
    ceiling: int
    until: float | None = None


class Ask(NamedTuple):
    """What one request takes: nano-dollars and tokens, beside one request and one slot."""

    usd: int
    tokens: int


class Reading(NamedTuple):
    """A counter, after the request was counted in or refused.

    `used` of `ceiling`, which may be this process's share of the limit; of it, `held` is reserved
    by requests that still run (money only). `wait` is in how many seconds what was refused would
    fit: 0 if it fits, NEVER, and for money 0 as well: its period says when.
    """

    used: float
    held: int
    ceiling: int
    wait: float = 0.0

    @property
    def settled(self) -> float:
        return self.used - self.held


class Outcome(NamedTuple):
    """What became of a reservation: a reading for each limit, and the places of those that refused
    it. Where one refused, nothing was taken from any."""

    readings: tuple[Reading, ...]
    refused: tuple[int, ...] = ()


class State(Protocol):
    """Counters by key. Who reserves must settle, once; ids are of the caller's making and unique.

    A failure of what is behind never reaches the caller: every state answers, soon.
    """

    async def reserve(self, id_: str, limits: Sequence[Limit], ask: Ask) -> Outcome:
        """Take from every limit, or from none."""
        ...

    async def extend(self, id_: str, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        """Raise a reservation from `asked.usd` to `usd`, or leave it as it is. Only what counts
        money changes."""
        ...

    def settle(self, id_: str, limits: Sequence[Limit], asked: Ask, true: Ask) -> None:
        """Give a reservation back for what was true. Returns at once; `asked` is what it held."""
        ...

    def peek(self, limit: Limit, max_age: float = ...) -> Reading | None:
        """What is known of a counter here and now, without asking anyone: of a rate never more
        than is used, of money never more than is settled. None if nothing is known, or nothing
        that was true `max_age` seconds ago."""
        ...

    def may_be_full(self, limits: Sequence[Limit], max_age: float = ...) -> bool:
        """Whether a `peek` may show that one of these has no room for one more. Costs less."""
        ...

    async def load(self, spent: Iterable[tuple[Limit, int]], *, whole: bool = False) -> None:
        """Make known what had been settled before this process started; `whole` if what was
        settled in this process since is in it as well."""
        ...

    async def open(self) -> None: ...

    async def flush(self) -> None:
        """Wait until the settlements so far have arrived."""
        ...

    async def close(self) -> None:
        """Wait for settlements on their way, for a moment."""
        ...

    @property
    def away(self) -> bool | None:
        """Whether what is behind can't be reached; None where nothing is behind."""
        ...


class Commands(Protocol):
    """The Redis that gateways share, for what is no counter."""

    def key(self, name: str) -> str:
        """A key of ours, by its name."""
        ...

    async def ask(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any] | None:
        """The answers to plain commands, an exception for one that was refused; in one round trip,
        soon. None if Redis is away."""
        ...
