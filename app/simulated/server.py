"""The scripted upstream as an ASGI application: OpenAI's doors, and those that programme it.

`/v1/chat/completions` and `/v1/models` speak OpenAI; `/script`, `/ports`, `/log` are for testers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson

from app.simulated.behaviour import PLAIN, Behaviour, behaviour_from_json
from app.simulated.character import CHARACTERS, Character, character_of
from app.simulated.completion import completion
from app.simulated.compose import compose
from app.simulated.connection import Connection, Receive, Scope, Send
from app.simulated.events import events
from app.simulated.log import Exchange, Log
from app.simulated.ports import Ports
from app.simulated.prompt import PromptCache
from app.simulated.provider_errors import provider_error
from app.simulated.refusal import RequestRefused, error_body
from app.simulated.script import Script
from app.simulated.transmit import EVENT_STREAM, Outgoing, transmit

SIMULATE_FIELD = "x_simulate"
_SHOWN_EXCHANGES = 100


class SimulatedAPI:
    """One upstream with its script, log and prompt cache. `strict_models` refuses other names."""

    def __init__(self, *, strict_models: bool = False) -> None:
        self.script = Script()
        self.log = Log()
        self._ports = Ports()
        self._cache = PromptCache()
        self._strict_models = strict_models
        self._doors: dict[tuple[str, str], Callable[[Scope, bytes], Any]] = {
            ("GET", "/v1/models"): lambda *_: _models(),
            ("GET", "/healthz"): lambda *_: {"status": "ok", "simulated": True},
            ("GET", "/script"): lambda *_: self.script.as_json(),
            ("POST", "/script"): self._add_to_script,
            ("DELETE", "/script"): self._clear_script,
            ("GET", "/ports"): lambda *_: self._ports.opened(),
            ("GET", "/log"): self._show_log,
            ("DELETE", "/log"): self._clear_log,
        }

    def close(self) -> None:
        """Close what it opened beside its own socket."""
        self._ports.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read(receive)
        if body is None:
            return
        method, path = scope["method"], scope["path"]
        if (method, path) == ("POST", "/v1/chat/completions"):
            exchange = self.log.open(path, scope["headers"], body)
            outgoing, behaviour = self._chat(body, exchange)
        else:
            exchange = Exchange(0, path, [], b"")
            outgoing, behaviour = self._other(scope, method, path, body), PLAIN
        await transmit(outgoing, behaviour, Connection(scope, receive, send, exchange), exchange)

    def _other(self, scope: Scope, method: str, path: str, body: bytes) -> Outgoing:
        door = self._doors.get((method, path))
        if door is None:
            return _plain(error_body(404, f"Invalid URL ({method} {path})"), status=404)
        try:
            return _plain(door(scope, body))
        except RequestRefused as refused:
            return _plain(refused.body(), status=refused.status)

    def _chat(self, body: bytes, exchange: Exchange) -> tuple[Outgoing, Behaviour]:
        behaviour = PLAIN
        try:
            payload = _parse(body)
            exchange.model = model = self._model(payload)
            behaviour = self._behaviour(payload, model)
            return self._outgoing(payload, behaviour), behaviour
        except RequestRefused as refused:
            return _plain(refused.body(), status=refused.status), behaviour

    def _model(self, payload: dict[str, Any]) -> str:
        model = payload.get("model")
        if not isinstance(model, str) or not model:
            raise RequestRefused("you must provide a model parameter", param="model")
        if self._strict_models and model not in CHARACTERS:
            text = f"The model `{model}` does not exist or you do not have access to it."
            raise RequestRefused(text, code="model_not_found", status=404)
        return model

    def _behaviour(self, payload: dict[str, Any], model: str) -> Behaviour:
        if payload.get(SIMULATE_FIELD) is not None:
            return behaviour_from_json(payload[SIMULATE_FIELD], SIMULATE_FIELD)
        return self.script.take(model) or PLAIN

    def _outgoing(self, payload: dict[str, Any], behaviour: Behaviour) -> Outgoing:
        if behaviour.status != 200 or behaviour.error is not None:
            return _error(behaviour)
        character = character_of(payload["model"])
        asked = bool(payload.get("stream"))
        if asked if behaviour.as_stream is None else behaviour.as_stream:
            return self._stream(payload, behaviour, character)
        if behaviour.raw_sse is not None:
            return _plain(b"".join(text.encode() for text in behaviour.raw_sse))
        answer = compose(payload, behaviour, character, self._cache)
        seconds = character.first_token_seconds + answer.token_count * character.token_seconds
        body = orjson.dumps(completion(answer))
        return _plain(body[: len(body) // 2] if behaviour.malformed else body, seconds=seconds)

    def _stream(
        self, payload: dict[str, Any], behaviour: Behaviour, character: Character
    ) -> Outgoing:
        if behaviour.raw_sse is not None:
            pieces = [text.encode() for text in behaviour.raw_sse]
        else:
            answer = compose(payload, behaviour, character, self._cache)
            pieces = events(answer, _includes_usage(payload))
        if behaviour.malformed:
            pieces[1:2] = [b'data: {"id": "chatcmpl-broken", "choices": [{"ind\n\n']
        return Outgoing(
            pieces,
            content_type=EVENT_STREAM,
            head_seconds=character.first_token_seconds,
            piece_seconds=character.token_seconds,
            stream=True,
            headers={"cache-control": "no-cache"},
        )

    def _add_to_script(self, _scope: Scope, body: bytes) -> Any:
        self.script.add(_parse_any(body))
        return self.script.as_json()

    def _clear_script(self, _scope: Scope, _body: bytes) -> Any:
        self.script.clear()
        return self.script.as_json()

    def _show_log(self, scope: Scope, _body: bytes) -> Any:
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("last", [""])[0]
        most = int(asked) if asked.isdecimal() else _SHOWN_EXCHANGES
        return [exchange.as_json() for exchange in self.log.last(most)]

    def _clear_log(self, _scope: Scope, _body: bytes) -> Any:
        self.log.clear()
        return []


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client left before its end."""
    message = await receive()
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    return None


def _parse(body: bytes) -> dict[str, Any]:
    payload = _parse_any(body)
    if not isinstance(payload, dict):
        raise RequestRefused("The body must be a JSON object.")
    return payload


def _parse_any(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = f"We could not parse the JSON body of your request: {error}"
        raise RequestRefused(text) from error


def _includes_usage(payload: dict[str, Any]) -> bool:
    options = payload.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _plain(body: Any, *, status: int = 200, seconds: float = 0.0) -> Outgoing:
    encoded = body if isinstance(body, bytes) else orjson.dumps(body)
    return Outgoing([encoded], status=status, head_seconds=seconds)


def _error(behaviour: Behaviour) -> Outgoing:
    status, body = behaviour.status, behaviour.error
    if isinstance(body, str):
        return _plain(body.encode(), status=status)
    if behaviour.error_like is not None:
        body, headers = provider_error(behaviour.error_like, status)
        return Outgoing([orjson.dumps(body)], status=status, headers=headers)
    text = f"[simulated] Scripted failure with status {status}."
    return _plain(error_body(status, text) if body is None else body, status=status)


def _models() -> dict[str, Any]:
    created = int(time.time())
    data = [
        {"id": name, "object": "model", "created": created, "owned_by": "simulated"}
        for name in CHARACTERS
    ]
    return {"object": "list", "data": data}
