"""The traffic of `pointsman demo`: prompts made into requests of many kinds, and sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx2
import orjson

from app.cli import demo_prompts as prompts

Body = dict[str, Any]

_CONCURRENT_REQUESTS = 8
_TIMEOUT_SECONDS = 120.0
_NOTES_IN_A_LONG_PROMPT = 60


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the demo and what kind it is."""

    kind: str
    body: Body


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. `code` is the error's, or None; money is known for whole answers only."""

    kind: str
    status: int
    seconds: float
    model: str | None
    route: str | None
    decision: str | None
    simulated: bool
    code: str | None = None


def asks(count: int, model: str = "auto") -> list[Ask]:
    """So many requests, kinds mixed evenly and always in the same order."""
    return list(islice(_endless(model), count))


def _endless(model: str) -> Iterator[Ask]:
    """All prompts, spread so that each stretch has the mix of the whole; then all over again."""
    placed = [
        ((place + 0.5) / len(texts), kind, place, text)
        for kind, texts in _KINDS.items()
        for place, text in enumerate(texts)
    ]
    while True:
        for _, kind, place, text in sorted(placed):
            shape = _SHAPES.get(kind, _plain)
            yield Ask(kind, {"model": model, **shape(text, place)})


def _plain(text: str, _place: int) -> Body:
    return {"messages": [{"role": "user", "content": text}]}


def _streamed(text: str, place: int) -> Body:
    return {**_plain(text, place), "stream": True}


def _with_tools(text: str, place: int) -> Body:
    system = {"role": "system", "content": "You are a travel assistant. Use the tools."}
    return {"messages": [system, *_plain(text, place)["messages"]], "tools": _TOOLS}


def _shaped(text: str, place: int) -> Body:
    if place % 3 == 0:
        return {**_plain(f"{text} Answer in JSON.", place), "response_format": _JSON_OBJECT}
    return {**_plain(text, place), "response_format": _JSON_SCHEMA}


def _long(text: str, place: int) -> Body:
    notes = "\n".join(_note(entry, place) for entry in range(_NOTES_IN_A_LONG_PROMPT))
    return _plain(f"These are the notes of one shift:\n\n{notes}\n\n{text}", place)


def _note(entry: int, place: int) -> str:
    return prompts.NOTES[entry % 2].format(
        hour=5 + entry // 4,
        minute=15 * (entry % 4) + (entry * 7 + place) % 15,
        train=2100 + entry * 37 % 800,
        late=(entry * 5 + place) % 19,
        weather=prompts.WEATHER[(entry + place) % len(prompts.WEATHER)],
    )


def _tool(name: str, description: str, **properties: str) -> Body:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


_TOOLS = [
    _tool("get_weather", "Forecast for a city", city="string", days="integer"),
    _tool("find_trains", "Connections between stations", origin="string", destination="string"),
    _tool("book_seat", "Reserve seats on a train", train="string", seats="integer"),
]
_JSON_OBJECT = {"type": "json_object"}
_JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "extraction",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["record", "label"]},
                "values": {"type": "array", "items": {"type": "string"}},
                "sure": {"type": "boolean"},
            },
            "required": ["kind", "values", "sure"],
            "additionalProperties": False,
        },
    },
}
_KINDS = {
    "easy": prompts.EASY,
    "reasoning": prompts.REASONING,
    "code": prompts.CODE,
    "tools": prompts.TOOLS,
    "json": prompts.SHAPED,
    "stream": prompts.STREAMED,
    "long": prompts.LONG,
}
_SHAPES: dict[str, Callable[[str, int], Body]] = {
    "tools": _with_tools,
    "json": _shaped,
    "stream": _streamed,
    "long": _long,
}


async def send_all(
    url: str, wanted: Sequence[Ask], headers: dict[str, str], done: Callable[[], None]
) -> list[Outcome]:
    """Send the requests, a few at a time; `done` is called after each. Failures are outcomes."""
    waiting = iter(wanted)
    outcomes: list[Outcome] = []
    limits = httpx2.Limits(max_connections=_CONCURRENT_REQUESTS)
    async with httpx2.AsyncClient(
        base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS, limits=limits
    ) as client:

        async def work() -> None:
            for ask in waiting:
                outcomes.append(await send(client, ask))
                done()

        await asyncio.gather(*(work() for _ in range(_CONCURRENT_REQUESTS)))
    return outcomes


async def send(client: httpx2.AsyncClient, ask: Ask) -> Outcome:
    """One request, read to its end."""
    started = time.perf_counter()
    try:
        response = await client.post("/v1/chat/completions", json=ask.body)
    except httpx2.HTTPError as error:
        seconds = time.perf_counter() - started
        return Outcome(ask.kind, 0, seconds, None, None, None, False, type(error).__name__)
    seconds = time.perf_counter() - started
    text = response.text
    return Outcome(
        kind=ask.kind,
        status=response.status_code,
        seconds=seconds,
        model=response.headers.get("x-pointsman-model"),
        route=response.headers.get("x-pointsman-route"),
        decision=response.headers.get("x-pointsman-decision"),
        simulated='"system_fingerprint":"simulated"' in text,
        code=None if response.status_code == 200 else _code(text),
    )


def _code(text: str) -> str:
    try:
        return str(orjson.loads(text)["error"]["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "unreadable"
