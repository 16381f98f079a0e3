"""Two requests share an answer only if nothing that changes it differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.accounting.caller import Caller
from app.catalog.model import Deployment, Model
from app.compiling import compile_config
from app.config.caching import Cache
from app.config.load import loads
from app.delivery.cache.terms import Question, Terms, question
from app.wire import openai_chat

MODEL = Model("small", "u", "s", None)
BODY = {
    "model": "auto",
    "temperature": 0,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ],
}


def asked(caller: Caller | None = None, terms: Terms | None = None, **fields: Any) -> Question:
    body = orjson.dumps({**BODY, **fields})
    request = openai_chat.parse(body, request_id="r", started=0, received=0, max_images=1)
    return question(request, terms or made(), caller or Caller())


def made(name: str = "auto", models: tuple[Model, ...] = (MODEL,), **written: Any) -> Terms:
    return Terms.compile(Cache(**written), name, models)


SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"a": {}, "b": {}}}}
TURNED = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"b": {}, "a": {}}}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"messages": [{"role": "user", "content": "Hello"}]}),
        ({}, {"messages": [*BODY["messages"], {"role": "user", "content": "Hello"}]}),  # type: ignore[misc]
        ({}, {"temperature": 0.5}),
        ({}, {"max_tokens": 5}),
        ({}, {"seed": 1}),
        ({}, {"n": 2}),
        ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ({}, {"response_format": {"type": "json_object"}}),
        ({"response_format": SCHEMA}, {"response_format": TURNED}),
        ({}, {"user": "somebody"}),
        ({}, {"reasoning_effort": "high"}),
        ({}, {"a_field_of_tomorrow": 1}),
        ({}, {"model": "router-knn-0.5"}),
        ({"model": "router-knn-0.4"}, {"model": "router-knn-0.5"}),
    ],
)
def test_what_makes_another_question(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert asked(**one).key != asked(**other).key
    assert asked(**one).rest != asked(**other).rest


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "an-alias"},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"metadata": {"a": "b"}, "prompt_cache_key": "x"},
        {"seed": None},
    ],
)
def test_what_does_not(fields: dict[str, Any]) -> None:
    assert asked(**fields) == asked()


def test_only_the_last_message_of_the_user_may_be_worded_otherwise() -> None:
    hello, bye = asked(), asked(messages=[BODY["messages"][0], {"role": "user", "content": "Bye"}])  # type: ignore[index]
    assert hello.key != bye.key
    assert hello.rest == bye.rest
    assert bye.text == "Bye"
    named = {"role": "user", "content": "Hello", "name": "ann"}
    assert asked(messages=[BODY["messages"][0], named]).rest != hello.rest  # type: ignore[index]
    for last in ({"role": "assistant", "content": "Sure:"}, {"role": "user", "content": []}):
        assert asked(messages=[{"role": "user", "content": "Hi"}, last]).text is None


ANN, BOB = Caller("ann", tags=("a", "b")), Caller("bob", tags=("b", "a"))
EVE = Caller("eve")


@pytest.mark.parametrize(
    ("scope", "one", "other", "shared"),
    [
        ("key", ANN, ANN, True),
        ("key", ANN, BOB, False),
        ("tag", ANN, BOB, True),
        ("tag", ANN, Caller("c", tags=("a",)), False),
        ("tag", EVE, Caller("f"), False),
        ("tag", EVE, EVE, True),
        ("all", ANN, EVE, True),
    ],
)
def test_who_shares(scope: str, one: Caller, other: Caller, shared: bool) -> None:
    terms = made(scope=scope)
    assert (asked(one, terms) == asked(other, terms)) is shared


def test_routes_and_their_models() -> None:
    others = [made("other"), made(models=(MODEL, Model("large", "u", "l", None)))]
    others.append(made(models=(Model("small", "u", "s-2", None),)))
    others.append(Terms.compile(Cache(), "auto", (MODEL,), "another-encoder"))
    # An upstream that has moved, and one more place where the model is served.
    others.append(Terms.compile(Cache(), "auto", (MODEL,), addresses={"u": "http://b/v1"}))
    two = (Deployment("small/u", "u", MODEL.upstream_id), Deployment("small/v", "v", "s"))
    others.append(made(models=(replace(MODEL, deployments=two),)))
    keys = {asked(terms=terms).key for terms in (made(), *others)}
    assert len(keys) == 7


def test_the_addresses_are_the_configurations() -> None:
    def place(address: str) -> bytes:
        text = f"""
upstreams: {{u: {{kind: openai, base_url: "{address}"}}}}
models: {{m: {{upstream: u, prices: {{input: 1, output: 1}}}}}}
cache: {{kind: exact}}
ledger: null
"""
        return compile_config(loads(text)).cached["m"].place

    assert place("http://127.0.0.1:1/v1") == place("http://127.0.0.1:1/v1")
    assert place("http://127.0.0.1:1/v1") != place("http://127.0.0.1:2/v1")


@pytest.mark.parametrize(
    ("payload", "tool_results", "unfit"),
    [
        ({"temperature": 0}, 0, None),
        ({"temperature": 0}, 1, "tool_results"),
        ({"temperature": 0.1}, 0, "temperature"),
        ({}, 0, "temperature"),
        ({"temperature": 0, "store": True}, 0, "store"),
    ],
)
def test_what_is_never_cached(payload: dict[str, Any], tool_results: int, unfit: str) -> None:
    assert made().unfit(payload, tool_results) == unfit


def test_who_says_no_temperature_has_the_usual_one() -> None:
    assert made(max_temperature=1).unfit({}, 0) is None
    assert made(max_temperature=0.9).unfit({}, 0) == "temperature"
