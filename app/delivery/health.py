"""The breaker of one deployment: what fails too often is left alone for a while.

Pure: the clock is injected and nothing is awaited, so every step can be tested. Closed, it counts
what it is told over a sliding window. Open, it lets nothing through until its time is over; then,
half open, a probe at a time, of which some in a row must be good. A probe that fails opens it again
for twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["closed", "half_open", "open"]
Verdict = Literal["ok", "failed", "unknown"]
"""How an attempt went, of which only the deployment's own failures count against it; `unknown` says
nothing of it, such as a client that left."""

_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    window_seconds: float = 30.0
    min_requests: int = 10
    error_ratio: float = 0.5
    slow_seconds: float | None = None
    slow_ratio: float = 0.8
    open_seconds: float = 5.0
    max_open_seconds: float = 120.0
    probes: int = 3


USUAL_BREAKER = BreakerSettings()


class Counts(NamedTuple):
    """Over the window."""

    total: int = 0
    failed: int = 0
    slow: int = 0

    @property
    def error_ratio(self) -> float:
        return self.failed / self.total if self.total else 0.0

    @property
    def slow_ratio(self) -> float:
        return self.slow / self.total if self.total else 0.0


class Window:
    """Counts over the last `seconds`, in tenths of it: what is counted is forgotten a tenth at a
    time."""

    __slots__ = ("_buckets", "_clock", "_places", "_width")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._width = seconds / _BUCKETS
        self._clock = clock
        self._buckets = [[0, 0, 0] for _ in range(_BUCKETS)]
        self._places = [-_BUCKETS] * _BUCKETS

    def add(self, *, failed: bool, slow: bool) -> None:
        place = int(self._clock() / self._width)
        bucket = self._buckets[place % _BUCKETS]
        if self._places[place % _BUCKETS] != place:
            self._places[place % _BUCKETS] = place
            bucket[:] = 0, 0, 0
        bucket[0] += 1
        bucket[1] += failed
        bucket[2] += slow

    def counts(self) -> Counts:
        since = int(self._clock() / self._width) - _BUCKETS
        total = errors = slow = 0
        for place, bucket in zip(self._places, self._buckets, strict=True):
            if place > since:
                total += bucket[0]
                errors += bucket[1]
                slow += bucket[2]
        return Counts(total, errors, slow)

    def clear(self) -> None:
        self._places = [-_BUCKETS] * _BUCKETS


class Breaker:
    """`on_change` is told each state that it comes to, and why it opens: `errors`, `slow`, `probe`,
    `outlier` or `told`."""

    __slots__ = ("_clock", "_good", "_on_change", "_probing", "_seconds", "_settings",
                 "probed_well", "until", "window")  # fmt: skip

    def __init__(
        self,
        settings: BreakerSettings | None,
        clock: Callable[[], float],
        on_change: Callable[[State, str], None] = lambda state, reason: None,
    ) -> None:
        """Without settings it never opens by itself."""
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self.window = Window(settings.window_seconds if settings else 30.0, clock)
        self.until: float | None = None
        """When it may be probed, or may be since; None while closed."""
        self.probed_well: bool | None = None
        """How its last probe went; None if there was none since it came to be open."""
        self._seconds = 0.0
        self._probing = False
        self._good = 0

    @property
    def settings(self) -> BreakerSettings | None:
        return self._settings

    def configure(self, settings: BreakerSettings | None) -> None:
        """Other settings from now on. What is open stays so, but for a breaker taken away."""
        if settings == self._settings:
            return
        before, self._settings = self._settings, settings
        if settings is None:
            self.close()
        elif before is None or before.window_seconds != settings.window_seconds:
            self.window = Window(settings.window_seconds, self._clock)

    @property
    def state(self) -> State:
        if self.until is None:
            return "closed"
        return "open" if self._clock() < self.until else "half_open"

    @property
    def admits(self) -> bool:
        """Whether a request may go through now."""
        if self.until is None:
            return True
        return self._clock() >= self.until and not self._probing

    def enter(self) -> bool:
        """Note that a request goes through, asked or not; whether it is a probe, to be told to
        `leave`."""
        if self.until is None or self._probing or self._clock() < self.until:
            return False
        self._probing = True
        self._on_change("half_open", "probe")
        return True

    def leave(self, verdict: Verdict, *, slow: bool = False, probe: bool = False) -> None:
        """Note how a request went."""
        if probe:
            self._probing = False
        if verdict == "unknown":
            return
        failed = verdict == "failed"
        self.window.add(failed=failed, slow=slow)
        settings = self._settings
        if settings is None:
            return
        if self.until is None:
            if failed or slow:  # nothing gets worse by what went well
                self._judge(settings, self.window.counts())
        elif probe:
            self.probed(good=not failed and not slow)
        elif not failed and self._clock() < self.until:
            # It was asked because nothing else was left, and it can: look again at once.
            self.until = self._clock()

    def _judge(self, settings: BreakerSettings, counts: Counts) -> None:
        if counts.total < settings.min_requests:
            return
        if counts.error_ratio >= settings.error_ratio:
            self.open("errors")
        elif settings.slow_seconds is not None and counts.slow_ratio >= settings.slow_ratio:
            self.open("slow")

    def probed(self, *, good: bool) -> None:
        """A probe has shown what it was for."""
        self._probing = False
        if self.until is None or self._settings is None:
            return
        if not good:
            self.open("probe")
            self.probed_well = False
            return
        self.probed_well = True
        self._good += 1
        if self._good >= self._settings.probes:
            self.close()

    def open(self, reason: str) -> None:
        """Leave it alone: as long as the settings say, and twice as long each time that it was
        opened without having been closed between."""
        if (settings := self._settings) is None:
            return
        longer = self._seconds * 2 if self.until is not None else 0.0
        self._seconds = min(max(longer, settings.open_seconds), settings.max_open_seconds)
        self.until = self._clock() + self._seconds
        self._good = 0
        self._on_change("open", reason)

    def open_until(self, until: float) -> None:
        """Another process has found it failing."""
        settings = self._settings
        if settings is None or self.until is not None:
            return
        self.until = min(until, self._clock() + settings.max_open_seconds)
        self._seconds = settings.open_seconds
        self._good = 0
        self._on_change("open", "told")

    def close(self) -> None:
        """Forget all that was met with."""
        was, self.until, self.probed_well = self.until, None, None
        self._probing, self._good, self._seconds = False, 0, 0.0
        self.window.clear()
        if was is not None:
            self._on_change("closed", "recovered")
