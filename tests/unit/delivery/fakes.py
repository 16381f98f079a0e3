"""Upstreams that do as they are told, and what is needed to deliver to them."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from time import perf_counter
from typing import Any

import orjson
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry

from app.catalog.model import Deployment, DeploymentLimits, Model, Prices
from app.delivery.attempt import Opened, Whole
from app.delivery.deployment import UpstreamPolicy
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain
from app.delivery.fallback import deliver
from app.delivery.health import BreakerSettings
from app.delivery.terms import Afford
from app.delivery.upstreams.base import Timeouts
from app.errors import UpstreamError
from app.exchange.record import Record
from app.exchange.request import Request
from app.exchange.terms import USUAL_TERMS, Asked, Retries, Terms
from app.telemetry.metrics import Metrics
from app.wire import openai_chat

QUICK = Retries(attempts=2, base_seconds=0.001, max_seconds=0.002, wait_seconds=1.0)
SETTINGS = BreakerSettings(min_requests=4, open_seconds=5, probes=1)
POLICY = UpstreamPolicy(SETTINGS, retries=QUICK)

Scripted = UpstreamError | int | tuple[int, Mapping[str, str], bytes] | Callable[[], Any]
"""An error to raise, a status to answer, all of an answer, or something to await."""


class Answer:
    """An answer of one piece."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self._body = status, CIMultiDict(headers), body
        self.deadline = asyncio.get_running_loop().time() + 10
        self.closed = False

    async def read(self, most: int = 0) -> bytes:
        return self._body

    async def block(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def begin(self) -> None:
        """Nothing is waited for."""

    def finish(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


class ScriptedUpstream:
    """Answers by script, one entry a request and the last one for ever; else well."""

    stream_usage = True
    timeouts = Timeouts(connect=1, first_byte=5, idle=5, total=10)

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: deque[Scripted] = deque()
        self.standing: Scripted | None = None
        self.asked: list[str] = []
        self.times: list[Timeouts] = []

    async def post(self, path: str, body: bytes, timeouts: Any = None) -> Answer:
        payload = orjson.loads(body)
        self.asked.append(payload["model"])
        self.times.append(timeouts)
        told = self.script.popleft() if self.script else self.standing
        if callable(told) and not isinstance(told, UpstreamError):
            told = await told()
        if isinstance(told, UpstreamError):
            raise told
        if isinstance(told, int):
            return Answer(told, {}, b"{}")
        if told is not None:
            return Answer(*told)
        return Answer(200, {}, _stream() if payload.get("stream") else _whole())

    def mentions_secret(self, body: bytes) -> bool:
        return False


def _whole() -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}}
    return orjson.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage})


def _stream() -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    chunks: list[dict[str, Any]] = [
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Yes."}}]},
        {"id": "c", "model": "m", "choices": [], "usage": usage},
    ]
    events = [b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks]
    return b"".join([*events, b"data: [DONE]\n\n"])


def model(name: str, *places: Deployment, **facts: Any) -> Model:
    """A model with these deployments, or one of its own at `up`."""
    first = places[0] if places else Deployment(name, "up", name)
    return Model(name, first.upstream, first.upstream_id, Prices(1, 1), deployments=places, **facts)


def place(name: str, limits: DeploymentLimits | None = None, **facts: Any) -> Deployment:
    """A deployment at an upstream of the same name."""
    return Deployment(name, name, name, limits=limits, **facts)


class World:
    """Upstreams by name, made as they are asked for, and requests to them."""

    def __init__(self, policy: UpstreamPolicy = POLICY) -> None:
        self.upstreams: dict[str, ScriptedUpstream] = _Made()
        self.policy = policy
        self.metrics = Metrics(CollectorRegistry())
        self.deployments = Deployments(self.metrics, random=Random(1))
        self.record = Record("r", 0.0, 0.0)

    def __getitem__(self, name: str) -> ScriptedUpstream:
        return self.upstreams[name]

    def configure(self, *models: Model) -> None:
        policies: dict[str, UpstreamPolicy] = defaultdict(lambda: self.policy)
        for each in models:
            for deployment in each.deployments:
                policies[deployment.upstream] = self.policy
        self.deployments.configure(models, policies, self.metrics, 1)

    async def ask(
        self,
        *plan: Model,
        terms: Terms = USUAL_TERMS,
        asked: Asked | None = None,
        stream: bool = False,
        afford: Afford | None = None,
        drain: Drain | None = None,
        **fields: Any,
    ) -> Whole | Opened:
        self.record = Record("r", 0.0, 0.0)
        request = parsed(stream=stream, **fields)
        if asked is not None:
            request = replace(request, asked=asked)
        return await deliver(
            request, plan, self.upstreams, self.record, self.deployments, terms, afford, drain=drain
        )

    @property
    def tried(self) -> list[str]:
        """What the last request asked, in order."""
        return [one.deployment or one.model for one in self.record.attempts]


class _Made(dict[str, ScriptedUpstream]):
    def __missing__(self, name: str) -> ScriptedUpstream:
        made = self[name] = ScriptedUpstream(name)
        return made


def parsed(**fields: Any) -> Request:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **fields}
    now = perf_counter()
    return openai_chat.parse(
        orjson.dumps(body), request_id="r", started=now, received=now, max_images=0
    )
