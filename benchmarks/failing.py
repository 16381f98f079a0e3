"""What fails around a gateway in a chaos run, a stage after the other.

Faults are those that come before a stream's first event or spoil a whole answer, and one deployment
at least is always well: so every request could be served by somebody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.accounting.key_text import Hasher
from app.simulated.faults import FAULTS
from app.simulated.process import SimulatedUpstream
from benchmarks.in_turn import EVERY_LIMIT
from benchmarks.living import KEY_SECRET, LivingGateway
from benchmarks.redis_process import RedisProcess

PLACES = ("east", "west", "north")
MODEL, ROUTE = "one", "hedged"
"""What clients ask for in turn: the model itself, and a route to it that hedges."""
WELL: dict[str, Any] = {"delay_seconds": 0.15, "chunk_delay_seconds": 0.005}
"""What is well takes its time, so that there is always something in flight."""
_LATE = {
    "reset_after_events", "closed_after_events", "stall_after_events", "truncated_json",
    "truncated_stream", "endless_event", "endless_stream",
}  # fmt: skip
"""Faults of a stream that its client has seen begin: nobody else can serve it any more."""
_HEAVY = {"gzip_bomb", "endless_head", "endless_body", "error_without_end", "huge_headers"}
"""Faults that only a bound on what is read can end: a second of the machine for each request."""
_DRIP = {"slow_drip"}
"""Never idle, so that a whole answer may take all the time that the request has."""
_UNPRICED = {"usage_missing", "usage_absurd"}
"""Answers whose cost nobody knows: budgets count the reservation, the ledger nothing."""
NAMES = sorted(FAULTS.keys() - _LATE - _HEAVY - _DRIP - _UNPRICED)
_LEASE_SECONDS = 5
_BETWEEN_KILLS_SECONDS = 8.0


@dataclass
class Scene:
    """The parts of a run, and what was done to them."""

    gateway: LivingGateway
    redis: RedisProcess
    upstreams: Mapping[str, SimulatedUpstream]
    keys: Mapping[str, str]
    dead: list[tuple[float, float]] = field(default_factory=list)
    """Spans without a gateway, on the monotonic clock."""
    reloads: list[int] = field(default_factory=list)
    """Status of each answer to a reload."""

    def config(self, **more: Any) -> dict[str, Any]:
        return configuration(self.upstreams, self.redis.url, self.keys["good"], **more)


def configuration(
    upstreams: Mapping[str, SimulatedUpstream],
    redis: str,
    key: str,
    *,
    weights: Sequence[int] = (1, 1, 1),
    refused: str | None = None,
) -> dict[str, Any]:
    """One model at every upstream; at `refused` nobody listens."""
    urls = {name: one.base_url for name, one in upstreams.items()}
    if refused is not None:
        urls[refused] = f"http://127.0.0.1:{upstreams[refused].ports()['refused']}/v1"
    timeouts = {
        "connect_seconds": 1, "first_byte_seconds": 2, "idle_seconds": 2, "total_seconds": 20,
    }  # fmt: skip
    deployments = [
        {"upstream": name, "weight": weight} for name, weight in zip(urls, weights, strict=True)
    ]
    written = Hasher(KEY_SECRET.encode()).written(key)
    return {
        "upstreams": {
            name: {
                "kind": "openai",
                "base_url": url,
                "timeouts": timeouts,
                # Asked again soon, so that most faults are met and not only waited for.
                "breaker": {"open_seconds": 0.5, "max_open_seconds": 1},
                "max_cooldown_seconds": 1,
            }
            for name, url in urls.items()
        },
        "models": {
            MODEL: {
                "deployments": deployments,
                "prices": {"input": 1.0, "output": 4.0},
                "quality": 0.8,
            },
        },
        "routes": {
            ROUTE: {
                "candidates": [MODEL],
                "router": None,
                "hedge": {"percentile": 95, "budget_share": 0.05, "min_seconds": 0.3},
            },
        },
        "keys": [{"id": "good", "hash": written, "tags": ["chaos"], "limits": EVERY_LIMIT}],
        "limits": EVERY_LIMIT,
        "redis": {"url": redis, "lease_seconds": _LEASE_SECONDS, "replicas": 1},
        "ledger": {},
    }


async def calm(scene: Scene, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def one_faulty(scene: Scene, seconds: float) -> None:
    await _faults(scene, PLACES[:1], seconds)


async def two_faulty(scene: Scene, seconds: float) -> None:
    await _faults(scene, PLACES[:2], seconds)


async def _faults(scene: Scene, places: Sequence[str], seconds: float) -> None:
    """Every fault in turn; where two are faulty, each has another one."""
    for number in range(len(NAMES)):
        for place, name in enumerate(places):
            fault = NAMES[(number + 7 * place) % len(NAMES)]
            await asyncio.to_thread(scene.upstreams[name].script, times=None, fault=fault)
        await asyncio.sleep(seconds / len(NAMES))
    for name in places:
        await asyncio.to_thread(scene.upstreams[name].script, times=None, **WELL)


async def redis_frozen(scene: Scene, seconds: float) -> None:
    scene.redis.freeze()
    await asyncio.sleep(seconds * 0.6)
    scene.redis.thaw()
    await asyncio.sleep(seconds * 0.4)


async def redis_killed(scene: Scene, seconds: float) -> None:
    scene.redis.kill()
    await asyncio.sleep(seconds * 0.6)
    await asyncio.to_thread(scene.redis.start)
    await asyncio.sleep(seconds * 0.4)


async def gateway_killed(scene: Scene, seconds: float) -> None:
    """Again and again, as soon as it has served for a while."""
    until = time.monotonic() + seconds
    while True:
        killed = time.monotonic()
        await asyncio.to_thread(scene.gateway.kill)
        await asyncio.to_thread(scene.gateway.start)
        scene.dead.append((killed, time.monotonic()))
        left = until - time.monotonic()
        await asyncio.sleep(max(min(left, _BETWEEN_KILLS_SECONDS), 0))
        if left <= _BETWEEN_KILLS_SECONDS:
            return


async def reloads(scene: Scene, seconds: float) -> None:
    """Other weights every second, and now and then a deployment where nobody listens."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        refused = PLACES[number % 3] if number % 3 == 2 else None
        config = await asyncio.to_thread(
            scene.config, weights=(1 + number % 4, 1 + number % 3, 1), refused=refused
        )
        await _reload(scene, config)
        await asyncio.sleep(1.0)
    await _reload(scene, scene.config())


async def _reload(scene: Scene, config: Mapping[str, Any]) -> None:
    scene.gateway.write(config)
    scene.reloads.append(await asyncio.to_thread(scene.gateway.reload))


Stage = Callable[[Scene, float], Awaitable[None]]
STAGES: tuple[tuple[str, Stage, float], ...] = (
    ("all well", calm, 0.05),
    ("one deployment faulty", one_faulty, 0.22),
    ("two deployments faulty", two_faulty, 0.22),
    ("Redis frozen", redis_frozen, 0.10),
    ("Redis killed", redis_killed, 0.10),
    ("gateway killed", gateway_killed, 0.16),
    ("configuration reloaded", reloads, 0.10),
    ("all well again", calm, 0.05),
)
"""What happens in turn, and its part of the time."""
