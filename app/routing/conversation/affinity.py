"""Staying with the model that knows a conversation, unless leaving it is worth more than its prompt
cache; and leaving it for a stronger one when its tools keep failing.

Only what changes for the price's sake is held back: where the objective takes a dearer model
because this request is harder, it gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.accounting.caller import Caller
from app.catalog.model import Model
from app.exchange.record import Record
from app.exchange.request import Request
from app.routing.conversation.failing import failing_results
from app.routing.conversation.identity import Identity, follows, identify
from app.routing.conversation.sessions import Session, Sessions
from app.routing.conversation.switching import LEAST_CACHED_TOKENS, Rest, saving
from app.routing.decision import Decision
from app.routing.facts import Facts
from app.routing.objective import Option
from app.routing.route import Affinity, Route

_OF_MODELS = Affinity()
"""Who names a model stays with it, and with its deployment."""


@dataclass(slots=True)
class Conversation:
    """One request's part in a conversation. `session` is None where nothing is known of it."""

    terms: Affinity
    sessions: Sessions
    request: Request
    place: str
    caller: Caller
    facts: Facts
    failures: int = 0
    session: Session | None = None
    _warm: int = 0
    _escalates: bool = False
    _identity: Identity | None = None

    def identity(self) -> Identity:
        """Worked out when it is asked for: most requests begin a conversation and are short, and
        nobody needs to know which."""
        if self._identity is None:
            self._identity = identify(self.request, self.place, self.caller)
        return self._identity

    async def recall(self) -> None:
        """What is known of it, where something may have been said before."""
        if not follows(self.request):
            return
        if self.facts.tool_results:
            self.failures = failing_results(self.request.payload["messages"])
        self.session = await self.sessions.get(self.identity().key, self.terms.ttl_seconds)
        if self.session is not None and self._is_warm(self.session):
            self._warm = min(self.session.warm_tokens, self.facts.input_tokens)

    def _is_warm(self, session: Session) -> bool:
        same = session.beginning == self.identity().beginning.hex()
        return same and self.sessions.clock() - session.at < self.terms.warm_seconds

    @property
    def deployment(self) -> str | None:
        """The one that may have the conversation in its prompt cache."""
        if self.session is None or self._warm < LEAST_CACHED_TOKENS:
            return None
        return self.session.deployment

    # --- deciding ----------------------------------------------------------------------------

    def keep(self, decision: Decision) -> Decision:
        """The decision as the conversation has it: `sticky` where it changes the model."""
        able = [option for option in decision.options if option.eligible]
        if len(able) < 2:
            return decision
        chosen = _of(able, decision.chosen.name)
        stays = _of(able, self.session.model) if self.session is not None else None
        if chosen is None:
            return decision
        if self._fails_again():
            at = stays or chosen
            if chosen.quality > at.quality:
                self._escalates = True  # it moves up as it is
                return decision
            if (stronger := _stronger(able, at)) is not None:
                self._escalates = True
                return _moved(decision, stronger, "escalated")
        if stays is None or self.session is None or stays is chosen:
            return decision
        if self.session.escalated and chosen.quality <= stays.quality:
            return _moved(decision, stays, "stays_escalated")
        if chosen.price_rank >= stays.price_rank:
            return decision
        rest = Rest(self.facts.input_tokens, self._warm, self.terms.remaining_turns)
        if rest.cached_tokens >= LEAST_CACHED_TOKENS and saving(stays, chosen, rest) <= 0:
            return _moved(decision, stays, "prompt_cache")
        return decision

    def let_go(self) -> None:
        """The request is decided by itself after all."""
        self._escalates = False

    def _fails_again(self) -> bool:
        """Whether enough has failed since the last time that it was answered with a move."""
        if not self.terms.escalate_after:
            return False
        seen = self.session.failures_seen if self.session is not None else 0
        new = self.failures - seen if self.failures >= seen else self.failures
        return new >= self.terms.escalate_after

    # --- remembering -------------------------------------------------------------------------

    def served(self, record: Record) -> None:
        """Remember what served, once the answer has come."""
        before = self.session
        if record.model is None:
            return
        same = before is not None and before.model == record.model
        escalated = self._escalates or (same and before is not None and before.escalated)
        warm = self._warm_after(record, expected=self._warm if same else 0)
        if not (warm or escalated or before is not None):
            # Too short for a cache: there is nothing to stay for.
            return
        seen = before.failures_seen if before is not None else 0
        identity = self.identity()
        session = Session(
            model=record.model,
            at=self.sessions.clock(),
            warm_tokens=warm,
            beginning=identity.beginning.hex(),
            deployment=served.deployment if (served := record.served) else None,
            turns=1 + (before.turns if before is not None else 0),
            escalated=escalated,
            failures_seen=self.failures if self._escalates else min(seen, self.failures),
        )
        self.sessions.put(identity.key, session, self.terms.ttl_seconds)

    def _warm_after(self, record: Record, expected: int) -> int:
        """Tokens that the model may have cached now: all that passed, unless its report says that
        it does not cache."""
        usage = record.usage
        if usage is None:
            tokens = self.facts.input_tokens
            return tokens if tokens >= LEAST_CACHED_TOKENS else 0
        tokens = usage.input_tokens + usage.output_tokens
        cached = usage.cached_tokens + usage.cache_write_tokens
        if tokens < LEAST_CACHED_TOKENS or (not cached and expected >= LEAST_CACHED_TOKENS):
            return 0
        return tokens


async def conversation(
    request: Request, target: Route | Model, facts: Facts, caller: Caller, sessions: Sessions
) -> Conversation | None:
    """The conversation of a request; None where it makes no difference."""
    if isinstance(target, Model):
        terms = _OF_MODELS if len(target.deployments) > 1 else None
    else:
        terms = target.affinity
    if terms is None:
        return None
    talk = Conversation(terms, sessions, request, target.name, caller, facts)
    await talk.recall()
    return talk


def _of(options: Sequence[Option], name: str) -> Option | None:
    return next((option for option in options if option.model.name == name), None)


def _stronger(options: Sequence[Option], than: Option) -> Option | None:
    """The next better candidate, the cheapest of equals; None if there is none."""
    better = [option for option in options if option.quality > than.quality]
    return min(better, key=lambda option: (option.quality, option.price_rank), default=None)


def _moved(decision: Decision, option: Option, reason: str) -> Decision:
    plan = (option.model, *(model for model in decision.plan if model is not option.model))
    return replace(decision, kind="sticky", reason=reason, plan=plan)
