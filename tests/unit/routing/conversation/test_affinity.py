"""A conversation leaves its model only where that pays, or where it must."""

from __future__ import annotations

from typing import Any

import pytest

from app.accounting.caller import ANONYMOUS
from app.catalog.model import Deployment, Model, Prices
from app.exchange.record import Attempt, Record
from app.exchange.request import Request
from app.exchange.usage import Usage
from app.routing.conversation.affinity import Conversation, conversation
from app.routing.conversation.sessions import Session, Sessions
from app.routing.conversation.switching import Rest, saving
from app.routing.decision import Decision, decide
from app.routing.estimators.base import Candidate
from app.routing.estimators.prior import Prior
from app.routing.facts import Facts
from app.routing.objective import Option, Quality
from app.routing.route import Affinity, Route

SMALL = Model("small", "u", "s", Prices(100, 400, cached_input=50), quality=0.5)
MEDIUM = Model("medium", "u", "m", Prices(1_000, 4_000, cached_input=100), quality=0.7)
LARGE = Model("large", "u", "l", Prices(1_200, 5_000, cached_input=120), quality=0.9)
HELLO = {"role": "user", "content": "Hello"}
REPLY = {"role": "assistant", "content": "Hi"}
FAILS = {"role": "tool", "content": "Error: no"}


def option(model: Model, quality: float = 0.8, output: float = 100) -> Option:
    return Option(model, quality, quality, quality, output, cost=None)


class Talk:
    """One conversation on a route with three candidates; `keep` says which of them serves."""

    def __init__(self, keep: float = 0.5, **terms: Any) -> None:
        self.now = 1_000.0
        self.sessions = Sessions(clock=lambda: self.now)
        candidates = (SMALL, MEDIUM, LARGE)
        self.route = Route(
            "auto", candidates, LARGE, Quality(keep=keep, confidence=0.5),
            Prior([Candidate(m.name, None, m.quality) for m in candidates]),
            affinity=Affinity(**terms),
        )  # fmt: skip

    def _facts(self, tokens: int, messages: list[dict[str, Any]]) -> Facts:
        results = sum(message["role"] == "tool" for message in messages)
        return Facts("Hello", tokens, None, 1, frozenset(), 1, results)

    async def ask(
        self, tokens: int, wants: Model, *more: dict[str, Any], cached: int = 1,
        session: str | None = None, fails: bool = False,
    ) -> Decision:  # fmt: skip
        """A request of that many tokens, for which the objective takes one of the candidates."""
        messages = [HELLO, *more]
        request = Request("r", b"", {"messages": messages}, "auto", False, 0, 0, session=session)
        facts = self._facts(tokens, messages)
        talk = await conversation(request, self.route, facts, ANONYMOUS, self.sessions)
        assert isinstance(talk, Conversation)
        bar = {"small": 0.5, "medium": 0.7, "large": 0.95}[wants.name]
        route = Route(
            "auto", self.route.candidates, LARGE, Quality(keep=bar, confidence=0.5),
            self.route.estimator,
        )  # fmt: skip
        decision = decide(route, facts, self.route.estimator.estimate(None))  # type: ignore[arg-type]
        assert decision.chosen is wants
        decision = talk.keep(decision)
        if not fails:
            record = Record("r", 0, 0, model=decision.chosen.name)
            record.usage = Usage(tokens, 100, cached_tokens=cached)
            talk.served(record)
        self.now += 10
        return decision


def told(decision: Decision) -> tuple[str, str, str]:
    return decision.kind, decision.reason, decision.chosen.name


async def test_a_small_saving_does_not_buy_a_lost_cache() -> None:
    talk = Talk()
    assert (await talk.ask(20_000, LARGE)).kind == "learned"
    decision = await talk.ask(21_000, MEDIUM, REPLY, HELLO)
    assert told(decision) == ("sticky", "prompt_cache", "large")
    assert [model.name for model in decision.plan] == ["large", "medium", "small"]


async def test_a_large_saving_does() -> None:
    talk = Talk()
    await talk.ask(20_000, LARGE)
    assert (await talk.ask(21_000, SMALL, REPLY, HELLO)).chosen is SMALL
    # And now it is at home there.
    assert (await talk.ask(22_000, SMALL, REPLY, HELLO)).kind == "learned"


async def test_a_harder_request_gets_its_model_at_once() -> None:
    talk = Talk()
    await talk.ask(20_000, SMALL)
    assert (await talk.ask(21_000, LARGE, REPLY, HELLO)).chosen is LARGE


@pytest.mark.parametrize(
    ("first", "wait", "session", "cached"),
    [
        (500, 0, None, 1),  # too short to be cached
        (20_000, 300, None, 1),  # no longer warm
        (20_000, 4_000, None, 1),  # forgotten
    ],
)
async def test_what_is_not_cached_is_not_lost(
    first: int, wait: float, session: str | None, cached: int
) -> None:
    talk = Talk()
    await talk.ask(first, LARGE, cached=cached)
    talk.now += wait
    assert (await talk.ask(21_000, MEDIUM, REPLY, HELLO)).chosen is MEDIUM


async def test_a_provider_that_does_not_cache_is_found_out() -> None:
    talk = Talk()
    await talk.ask(20_000, LARGE, cached=0)
    assert (await talk.ask(21_000, MEDIUM, REPLY, HELLO, cached=0)).chosen is LARGE
    assert (await talk.ask(22_000, MEDIUM, REPLY, HELLO)).chosen is MEDIUM


async def test_a_first_request_is_decided_by_itself() -> None:
    talk = Talk()
    await talk.ask(20_000, LARGE)
    assert (await talk.ask(20_000, MEDIUM)).chosen is MEDIUM


async def test_one_that_names_its_conversation_is_not_first() -> None:
    talk = Talk()
    await talk.ask(20_000, LARGE, session="s")
    assert (await talk.ask(20_000, MEDIUM, session="s")).chosen is LARGE
    # The same conversation with another beginning has nothing cached.
    other = {"role": "user", "content": "Other"}
    request = Request("r", b"", {"messages": [other]}, "auto", False, 0, 0, session="s")
    facts = talk._facts(20_000, [other])
    found = await conversation(request, talk.route, facts, ANONYMOUS, talk.sessions)
    assert found is not None
    assert found.session is not None
    assert found._warm == 0


async def test_it_stays_with_its_deployment_as_well() -> None:
    talk = Talk()
    places = tuple(Deployment(name, "u", "m", MEDIUM.prices) for name in ("east", "west"))
    model = Model("medium", "u", "m", MEDIUM.prices, deployments=places)

    async def deployment(tokens: int, serves: str) -> str | None:
        """Where a request that names the model is sent first; another one serves it."""
        request = Request("r", b"", {"messages": [HELLO, REPLY]}, "medium", False, 0, 0)
        facts = talk._facts(tokens, [HELLO, REPLY])
        found = await conversation(request, model, facts, ANONYMOUS, talk.sessions)
        assert found is not None
        record = Record("r", 0, 0, model="medium", usage=Usage(tokens, 100, cached_tokens=1))
        record.attempts.append(Attempt("u", "medium", "ok", 0.1, deployment=serves))
        found.served(record)
        return found.deployment

    assert await deployment(500, "east") is None
    assert await deployment(5_000, "east") is None
    assert await deployment(5_000, "west") == "east"
    assert await deployment(5_000, "west") == "west"
    talk.now += 300
    assert await deployment(5_000, "west") is None
    alone = await conversation(
        Request("r", b"", {"messages": [HELLO]}, "small", False, 0, 0), SMALL,
        talk._facts(5_000, [HELLO]), ANONYMOUS, talk.sessions,
    )  # fmt: skip
    assert alone is None


async def test_nothing_is_kept_of_what_is_short() -> None:
    talk = Talk()
    await talk.ask(500, SMALL)
    assert len(talk.sessions) == 0


# --- escalation -----------------------------------------------------------------------------------


async def test_failing_tools_bring_a_stronger_model_that_stays() -> None:
    talk = Talk(escalate_after=2)
    results: list[dict[str, Any]] = []
    seen = []
    for _ in range(6):
        seen.append(told(await talk.ask(20_000, SMALL, *results))[1:])
        results += [REPLY, FAILS]
    assert [model for _, model in seen] == ["small", "small", "medium", "medium", "large", "large"]
    assert seen[2][0] == "escalated"
    assert seen[3][0] == "stays_escalated"
    # All is well again, and it stays: the next step may be as hard.
    decision = await talk.ask(20_000, SMALL, *results, {"role": "tool", "content": "fine"})
    assert told(decision) == ("sticky", "stays_escalated", "large")


async def test_escalation_never_takes_a_stronger_model_away() -> None:
    talk = Talk()
    await talk.ask(20_000, SMALL)
    assert (await talk.ask(20_000, LARGE, *[REPLY, FAILS] * 3)).chosen is LARGE
    decision = await talk.ask(20_000, SMALL, *[REPLY, FAILS] * 4)
    assert told(decision)[1:] == ("stays_escalated", "large")


async def test_escalation_without_a_stronger_model_or_switched_off() -> None:
    fails = [REPLY, FAILS] * 5
    assert (await Talk().ask(2_000, LARGE, *fails)).kind == "learned"
    assert (await Talk(escalate_after=0).ask(2_000, SMALL, *fails)).chosen is SMALL
    assert (await Talk().ask(2_000, SMALL, *fails)).chosen is MEDIUM


# --- what a switch saves --------------------------------------------------------------------------


def test_the_arithmetic_of_a_switch() -> None:
    stays = option(Model("a", "u", "a", Prices(2_000_000, 8_000_000, cached_input=200_000)))
    goes = option(Model("b", "u", "b", Prices(1_000_000, 4_000_000, cached_input=100_000)))
    rest = Rest(input_tokens=10_000, cached_tokens=9_000, turns=2)
    # Staying: 9,000 read and 1,000 sent, 10,000 read and 1,000 sent, 200 said.
    stay = 9_000 * 0.2 + 1_000 * 2 + 10_000 * 0.2 + 1_000 * 2 + 200 * 8
    go = 10_000 * 1 + 10_000 * 0.1 + 1_000 * 1 + 200 * 4
    assert saving(stays, goes, rest) == pytest.approx(stay - go)


def test_a_price_that_is_not_known_speaks_for_staying() -> None:
    known = option(Model("a", "u", "a", Prices(2_000, 8_000, cached_input=200)))
    unsaid = option(Model("b", "u", "b", Prices(2_000, 8_000)))
    unpriced = option(Model("c", "u", "c", None))
    rest = Rest(10_000, 10_000, 3)
    assert saving(unsaid, known, rest) < 0
    assert saving(known, unsaid, rest) < 0
    assert saving(unpriced, known, rest) < 0
    assert saving(known, unpriced, rest) < 0
    assert saving(unpriced, unpriced, rest) < 0


async def test_the_quietest_sessions_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routing.conversation.sessions._MOST", 2)
    sessions = Sessions(clock=lambda: 5.0)
    for key in (b"a", b"b", b"a", b"c"):
        sessions.put(key, Session(key.decode(), 1.0, 0, ""), 60)
    found = [await sessions.get(key, 60) for key in (b"a", b"b", b"c")]
    assert [one and one.model for one in found] == ["a", None, "c"]
    assert await sessions.get(b"a", 4) is None
