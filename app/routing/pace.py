"""How hard a route must save just now for its spending to meet its budget.

The one thing a budget has to remember. It is a price: what a dollar is worth, in quality. Each
request moves it up by what it cost and down by what it was allowed to cost (an online dual step; as
in ad auctions, Balseiro and Gur, "Learning in repeated auctions with budgets", 2019). Since every
step adds up, what is spent can be off by at most what moves the price from one end of its range to
the other, whatever the traffic does; no forecast of it is needed.

A pace is not shared: each worker process keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.exchange.money import NANO_PER_DOLLAR

DAY_SECONDS = 86_400
STEP = 0.02
"""How far a request that costs one spread more than allowed moves the price, in quality: after five
such, a candidate that is a tenth better is given up. Simulated with drifting difficulty, smaller
steps lag behind it, and larger ones gain little.
"""
DEAREST = 4.0
"""Ceiling of the price. Beyond, only requests with tiny costs would change sides, and a budget that
can't be met would run the price up to where it takes hours to come down.
"""
SAVINGS = 0.2
"""How far the price is remembered below 0, where it counts as 0: what was not spent is carried
over, up to ten spreads. With none, every lull in dear requests would be lost to the budget.
"""
_NEWEST = 0.005
"""Least weight of the newest request in a mean: the last few hundred count."""


class Allowance(Protocol):
    """What may be spent."""

    def accrue(self) -> float:
        """Nano-dollars that have become due since the last call; called once a request."""
        ...

    def spend(self, amount: float) -> None:
        """Nano-dollars spent; negative corrects an earlier one."""
        ...

    def describe(self) -> dict[str, object]: ...

    def succeed(self, former: Allowance) -> None:
        """Take over what the one before remembers."""
        ...


class PerRequest:
    """The same for each request, whenever it comes."""

    def __init__(self, nano: float) -> None:
        self._nano = nano

    def accrue(self) -> float:
        return self._nano

    def spend(self, amount: float) -> None:
        """Nothing to remember: the price remembers."""

    def describe(self) -> dict[str, object]:
        return {"usd_per_1k_requests": self._nano * 1000 / NANO_PER_DOLLAR}

    def succeed(self, former: Allowance) -> None:
        """Nothing was remembered."""


class PerDay:
    """What is left of the day's budget, evenly over what is left of the day (UTC).

    So a quiet night leaves more for the day, and nothing is carried over midnight. What was spent
    before the process started is not known; it is taken to have been on pace.
    """

    def __init__(self, nano: float, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since the epoch."""
        self._nano = nano
        self._clock = clock
        self._last = clock()
        self._spent = nano * (self._last % DAY_SECONDS) / DAY_SECONDS

    def accrue(self) -> float:
        now = max(self._clock(), self._last)
        midnight = (self._last // DAY_SECONDS + 1) * DAY_SECONDS
        if now >= midnight:
            self._last = now - now % DAY_SECONDS
            self._spent = 0.0
            midnight = self._last + DAY_SECONDS
        left = max(self._nano - self._spent, 0.0)
        due = left * (now - self._last) / (midnight - self._last)
        self._last = now
        return due

    def spend(self, amount: float) -> None:
        self._spent += amount

    def describe(self) -> dict[str, object]:
        return {
            "usd_per_day": self._nano / NANO_PER_DOLLAR,
            "usd_spent_today": round(self._spent / NANO_PER_DOLLAR, 6),
        }

    def succeed(self, former: Allowance) -> None:
        if isinstance(former, PerDay):
            self._last, self._spent = former._last, former._spent


class Pace:
    """The price, for one route. Money in nano-dollars.

    A request is booked twice: at its expected cost once it is decided, so that a burst is felt
    before the first of its answers has ended, and by the difference once its true cost is known.
    Where that never becomes known the expected cost stands; unknown is not free.

    What is kept is the debt, in money, so that it adds up exactly; the price is the debt in
    spreads. A spread is the mean difference in cost between the dearest and the cheapest candidate,
    so a budget is followed as quickly with cheap models as with dear ones. Expected lengths may be
    off by a factor common to all candidates, which is learned from true costs.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._debt = 0.0
        self._spread = _Mean()
        self._expected = _Mean()
        self._true = _Mean()
        self._heir: Pace | None = None

    def succeed(self, former: Pace) -> None:
        """Go on from where the same route's pace is, which from now on tells this one what becomes
        of the requests that were decided by it."""
        self.allowance.succeed(former.allowance)
        self._debt = former._debt
        self._spread, self._expected, self._true = former._spread, former._expected, former._true
        former._heir = self

    @property
    def quality_per_nano(self) -> float:
        """The price, in expected costs: 0 where there is money enough for the best."""
        spread = self._spread.value
        if not spread or self._debt <= 0:
            return 0.0
        return min(STEP * self._debt / self._true_spread, DEAREST) / spread

    def book(self, expected: float | None, spread: float) -> float:
        """A decided request: what it is expected to cost, None if that is unknown, and by how much
        the candidates' expected costs differ. Gives the amount booked, for `correct`.
        """
        if self._heir is not None:
            return self._heir.book(expected, spread)
        if spread > 0:
            self._spread.add(spread)
        due = self.allowance.accrue()
        if expected is None:
            return 0.0
        booked = expected * self._factor
        self._owe(booked, due)
        return booked

    def correct(self, true: float, booked: float, expected: float | None = None) -> None:
        """A settled request: its true cost instead of what was booked for it. With `expected`, the
        cost that was expected of the very model that served, lengths are learned from it.
        """
        if self._heir is not None:
            self._heir.correct(true, booked, expected)
            return
        self._owe(true - booked, 0.0)
        if expected and true:
            self._expected.add(expected)
            self._true.add(true)

    @property
    def _factor(self) -> float:
        """True costs over expected ones."""
        if not self._expected.value:
            return 1.0
        return min(max(self._true.value / self._expected.value, 0.01), 100.0)

    @property
    def _true_spread(self) -> float:
        return self._spread.value * self._factor

    def _owe(self, spent: float, due: float) -> None:
        self.allowance.spend(spent)
        unit = self._true_spread / STEP
        self._debt = min(max(self._debt + spent - due, -SAVINGS * unit), DEAREST * unit)


class _Mean:
    """Of the latest requests; of all, while they are few."""

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def add(self, amount: float) -> None:
        self._count += 1
        self.value += max(1 / self._count, _NEWEST) * (amount - self.value)
