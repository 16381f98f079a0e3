"""The state of every deployment, by name. It outlives the application that it was made for: who
reloads a configuration hands it on and calls `configure`. What is in it belongs to one process;
`app.delivery.sharing` tells the others when a deployment is to be left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from time import monotonic

from app.catalog.model import Deployment, Model
from app.delivery.balance import ordered
from app.delivery.deployment import USUAL_POLICY, DeploymentState, Event, UpstreamPolicy
from app.delivery.health import State
from app.state.memory import MemoryState
from app.telemetry.logs import log
from app.telemetry.metrics import Metrics


class Deployments:
    """The state of every deployment of this process. `counters` keep the deployments' limits."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        share: int = 1,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        """`share` is how many processes there are, each with an equal part of every limit."""
        self.clock = clock
        self.random = random or Random()  # noqa: S311 - jitter, not secrets
        self.counters = MemoryState(share, clock)
        self.on_event: Callable[[str, Event, float], None] = lambda name, event, until: None
        """Told of every breaker that opens and every cooldown that begins here, and until when."""
        self._metrics = metrics
        self._policies: Mapping[str, UpstreamPolicy] = {}
        self._states: dict[str, DeploymentState] = {}
        self._of_model: dict[str, tuple[Model, tuple[DeploymentState, ...]]] = {}
        self._former: dict[str, tuple[Model, tuple[DeploymentState, ...]]] = {}
        """Of models that the configuration does not have, or not any more: what began before the
        last one still asks them."""

    def configure(
        self,
        models: Iterable[Model],
        policies: Mapping[str, UpstreamPolicy],
        metrics: Metrics | None,
        share: int,
    ) -> None:
        """Take on a configuration: what goes on under its name keeps its state."""
        self._metrics, self._policies, self.counters.share = metrics, policies, share
        self._of_model.clear()
        self._former.clear()
        before, self._states = self._states, {}
        for model in models:
            for deployment in model.deployments:
                state = before.get(deployment.name)
                if state is None:
                    state = self._new(deployment)
                else:
                    state.configure(deployment, self._policy(deployment))
                self._states[deployment.name] = state
            states = tuple([self._states[each.name] for each in model.deployments])
            for state in states:
                state.peers = states
            self._of_model[model.name] = (model, states)
        for state in self:
            self.changed(state, state.breaker.state)
        if metrics is not None:
            for name in before.keys() - self._states.keys():
                metrics.deployment_gone(name)

    def __iter__(self) -> Iterator[DeploymentState]:
        return iter(self._states.values())

    def get(self, name: str) -> DeploymentState | None:
        return self._states.get(name)

    def by_model(self) -> Iterator[tuple[Model, DeploymentState]]:
        """Every deployment with its model."""
        for model, states in self._of_model.values():
            for state in states:
                yield model, state

    def of(self, model: Model) -> tuple[DeploymentState, ...]:
        """The states of a model's deployments, as they stand in the configuration."""
        known = self._of_model.get(model.name)
        if known is not None and known[0] is model:
            return known[1]
        known = self._former.get(model.name)
        if known is not None and known[0] is model:
            return known[1]
        states = tuple(
            [self._states.get(each.name) or self._new(each) for each in model.deployments]
        )
        self._former[model.name] = (model, states)
        return states

    def order(
        self, model: Model, *, stream: bool, first: str | None = None
    ) -> Sequence[DeploymentState]:
        """In what order to ask them. `first` names one that goes before its equals."""
        states = self.of(model)
        if len(states) == 1:
            return states
        order = ordered(states, model.balance, self.random, stream=stream)
        if first is None:
            return order
        best = order[0].priority
        return sorted(order, key=lambda one: not (one.name == first and one.priority == best))

    def tell(self, state: DeploymentState, event: Event, reason: str, until: float) -> None:
        """A breaker has opened or a cooldown has begun."""
        seconds = until - self.clock()
        if event == "open":
            log.warning("deployment %s is left alone for %.1f s (%s)", state.name, seconds, reason)
        if self._metrics is not None:
            self._metrics.deployment_left(state.name, event, reason)
        if reason != "told":
            self.on_event(state.name, event, until)

    def retried(self, state: DeploymentState, *, sent: bool) -> None:
        """A retry was sent, or not for want of budget."""
        if self._metrics is not None:
            self._metrics.retried(state.name, sent=sent)

    def hedged(self, route: str, result: str) -> None:
        """What came of a hedge, or why there was none."""
        if self._metrics is not None:
            self._metrics.hedged(route, result)

    def changed(self, state: DeploymentState, to: State) -> None:
        """A breaker has come to another state."""
        if self._metrics is not None and self._states.get(state.name) is state:
            self._metrics.deployment_is(state.name, to)

    def _new(self, deployment: Deployment) -> DeploymentState:
        return DeploymentState(self, deployment, self._policy(deployment))

    def _policy(self, deployment: Deployment) -> UpstreamPolicy:
        return self._policies.get(deployment.upstream, USUAL_POLICY)
