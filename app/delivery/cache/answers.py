"""The cache as a request meets it: look for an answer, and keep the one that came instead.

A failure in here is a request that is not answered from the cache, and nothing worse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import time
from typing import Any, NamedTuple

from app.accounting.caller import Caller
from app.catalog.model import Model
from app.delivery.cache.control import CacheControl, cache_control
from app.delivery.cache.entry import Entry, Form, is_worth_keeping
from app.delivery.cache.likeness import signature
from app.delivery.cache.memory import Memory
from app.delivery.cache.nearest import Asked, Nearest, Vector
from app.delivery.cache.replay import Hit, given
from app.delivery.cache.shared import SharedAnswers
from app.delivery.cache.terms import Key, Question, Terms, question
from app.errors import NotCached
from app.exchange.record import Cached, Record
from app.exchange.request import Request
from app.routing.encoder.embedder import Embedder
from app.routing.route import Route
from app.telemetry.logs import log
from app.wire.openai_chat import StreamReader

_CLOSE_SECONDS = 2.0


@dataclass(slots=True)
class Place:
    """Where the answer to a request belongs that was not in the cache."""

    cache: AnswerCache
    terms: Terms
    asked: Question
    request: Request
    vector: Vector | None = None

    @property
    def most_bytes(self) -> int:
        """Of an answer that has room."""
        return self.cache.memory.largest

    def keep(self, form: Form, body: bytes, record: Record) -> None:
        """Keep an answer that ended well, if it would be given again."""
        with _harmless("an answer was not kept"):
            if record.model is not None and is_worth_keeping(body, self.request.payload):
                entry = Entry(form, body, record.model, record.usage, self.cache.clock())
                self.cache.keep(self, entry)

    def keep_stream(self, reader: StreamReader, record: Record) -> None:
        """The same of a stream that has ended, which its reader has kept."""
        with _harmless("a stream was not kept"):
            raw = reader.kept
            if raw is not None and reader.done and not reader.failed and record.model is not None:
                # With the usage that this client may not have asked for: the next one may.
                events = StreamReader(record.model, hide_usage=False).renamed(raw)
                self.keep("stream", events, record)


@contextmanager
def _harmless(what: str) -> Iterator[None]:
    """No failure of the cache may fail a request."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.exception("%s", what, exc_info=error)


class Found(NamedTuple):
    """An entry, its body in the form that is asked for, and for a similar question how alike."""

    entry: Entry
    body: bytes
    age_seconds: int
    likeness: float | None


class AnswerCache:
    """Answers by route, and of models asked for by name. `clock` is the wall clock's, which
    gateways share. What has no terms is not cached."""

    def __init__(
        self,
        terms: Mapping[str, Terms],
        memory: Memory,
        embedder: Embedder | None = None,
        shared: SharedAnswers | None = None,
        nearest: Nearest | None = None,
        clock: Callable[[], float] = time,
        on_change: Callable[[int, int], None] = lambda entries, size: None,
    ) -> None:
        """`terms` by the name of a route or model; `nearest` and `embedder` where any of them is
        semantic. `on_change` is told how many entries and bytes there are."""
        self._terms = terms
        self.memory = memory
        self._embedder = embedder
        self._shared = shared
        self._nearest = nearest
        self.clock = clock
        self._on_change = on_change
        self._background: set[asyncio.Task[None]] = set()

    async def look(
        self, request: Request, target: Route | Model, tool_results: int, caller: Caller,
        record: Record,
    ) -> Hit | Place | None:  # fmt: skip
        """An answer; or the place of the one to come; or None where neither is wanted.

        Notes in the record what came of it. Raises NotCached or InvalidField.
        """
        control = cache_control(request.cache_control)
        terms = self._terms.get(target.name)
        unfit = "off" if terms is None else terms.unfit(request.payload, tool_results)
        if terms is None or unfit is not None:
            record.cache = Cached("bypass", unfit or "")
            self._insist(control)
            return None
        place = Place(self, terms, question(request, terms, caller), request)
        if not control.read:
            record.cache = Cached("bypass", "no-cache")
        elif (found := await self._find(place, control)) is None:
            record.cache = Cached("miss")
        else:
            how = "exact" if found.likeness is None else "similar"
            usage = found.entry.usage
            record.cache = Cached("hit", how, found.age_seconds, found.likeness, usage)
            baseline = target if isinstance(target, Model) else target.baseline
            return Hit(found.body, found.entry.model, f"cache_{how}", baseline)
        self._insist(control)
        return place if control.write else None

    def keep(self, place: Place, entry: Entry) -> None:
        """Keep an entry here, and tell the other gateways of it in the background."""
        self._remember(place.asked.key, entry)
        mark = self._mark(place)
        if len(entry.body) <= self.memory.largest and (mark or self._shared):
            self._start(self._spread(place, entry, mark))

    def succeed(self, former: AnswerCache) -> None:
        """Go on with what another one has kept, under terms of one's own."""
        former.memory.bound(self.memory.max_entries, self.memory.max_bytes)
        self.memory = former.memory
        if self._nearest is not None and former._nearest is not None:
            self._nearest = former._nearest
        self._background = former._background

    async def close(self) -> None:
        """Wait for what is on its way, for a moment."""
        if self._background:
            await asyncio.wait(self._background, timeout=_CLOSE_SECONDS)

    def _insist(self, control: CacheControl) -> None:
        if control.only:
            raise NotCached("There is no answer in the cache, and `only-if-cached` asks for one.")

    # --- finding -----------------------------------------------------------------------------

    async def _find(self, place: Place, control: CacheControl) -> Found | None:
        """The answer to the same question, else to the one most like it."""
        key = place.asked.key
        mark = self._mark(place)
        with _harmless("the cache could not be read"):
            if found := self._usable(key, place, control, self.memory.get(key)):
                return found
            entry = await self._ask_others(place, mark)
            if found := self._usable(key, place, control, entry):
                return found
            if mark is not None:
                return await self._find_similar(place, control, mark)
        return None

    def _usable(
        self,
        key: Key,
        place: Place,
        control: CacheControl,
        entry: Entry | None,
        likeness: float | None = None,
    ) -> Found | None:
        """An entry that is fresh enough and has the form that is asked for; it is kept here, if it
        was not."""
        if entry is None:
            return None
        age = max(self.clock() - entry.stored_at, 0.0)
        most = place.terms.ttl_seconds if control.max_age is None else control.max_age
        if age >= place.terms.ttl_seconds or age > most:
            return None
        if (found := given(entry, place.request)) is None:
            return None
        body, known = found
        if known is not self.memory.get(key):
            self._remember(key, known)
        return Found(known, body, int(age), likeness)

    def _remember(self, key: Key, entry: Entry) -> None:
        self.memory.put(key, entry)
        self._on_change(len(self.memory), self.memory.bytes)

    def _oldest(self, place: Place) -> float:
        """What was answered then, or before, is not given again."""
        return self.clock() - place.terms.ttl_seconds

    async def _ask_others(self, place: Place, mark: bytes | None) -> Entry | None:
        """What Redis knows of the question, and of what is like it."""
        if self._shared is None:
            return None
        if mark is None or self._nearest is None:
            return await self._shared.get(place.asked.key)
        group = place.asked.rest
        since = self._nearest.heard_until(group)
        entry, heard = await self._shared.find(place.asked.key, group, since)
        oldest = self._oldest(place)
        for one in heard:
            if one.at > oldest:
                self._nearest.hear(group, one.asked, one.vector, one.at)
        return entry

    async def _find_similar(self, place: Place, control: CacheControl, mark: bytes) -> Found | None:
        nearest, group = self._nearest, place.asked.rest
        if nearest is None or self._embedder is None:
            return None
        if not nearest.knows(group, self._oldest(place)):
            return None
        assert place.asked.text is not None
        place.vector = await self._embedder.embed(place.asked.text)
        least = place.terms.min_similarity
        for key, likeness in list(nearest.like(group, place.vector, mark, least)):
            entry = self.memory.get(key)
            if entry is None and self._shared is not None:
                entry = await self._shared.get(key)
            if found := self._usable(key, place, control, entry, likeness):
                return found
        return None

    # --- keeping -----------------------------------------------------------------------------

    def _mark(self, place: Place) -> bytes | None:
        """What a similar question must share with this one; None where none is looked for."""
        if not place.terms.semantic or place.asked.text is None:
            return None
        return signature(place.asked.text)

    async def _spread(self, place: Place, entry: Entry, mark: bytes | None) -> None:
        with _harmless("an answer was not kept for others"):
            asked, ttl = place.asked, place.terms.ttl_seconds
            if self._shared is not None:
                await self._shared.put(asked.key, entry, ttl)
            if mark is None or asked.text is None or self._embedder is None:
                return
            if (vector := place.vector) is None:
                # Not remembered: a vector at hand would have the same prompt decided otherwise.
                vector = await self._embedder.embed(asked.text, remember=False)
            one = Asked(asked.key, mark)
            if self._nearest is not None:
                self._nearest.add(asked.rest, one, vector, entry.stored_at)
            if self._shared is not None:
                await self._shared.add(asked.rest, one, vector, ttl)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # The event loop itself holds tasks only weakly.
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
