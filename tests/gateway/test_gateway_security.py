"""What a caller who means harm can't do: read keys, choose where they go, make us hold much."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body
from tests.gateway.test_gateway_bad_http import answer_to, connected
from tests.gateway.test_gateway_keys import ADMIN, admin, chat, make

UPSTREAM_KEY = "secret-of-the-gateway"


@pytest.fixture
def keyed(gateway: Serve) -> Gateway:
    return gateway(STANDARD, POINTSMAN_ADMIN_KEY=ADMIN)


def head(key: str | None, length: int, *more: bytes) -> bytes:
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"host: x", *more]
    if key is not None:
        lines.append(b"authorization: Bearer " + key.encode())
    return b"\r\n".join([*lines, b"content-length: %d" % length, b"", b""])


# --- before the body ---------------------------------------------------------------------------


async def test_who_has_no_key_is_answered_before_the_body(keyed: Gateway) -> None:
    async with connected(keyed) as (reader, writer):
        writer.write(head("pm-wrong-key", 25_000_000))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert answer.startswith(b"HTTP/1.1 401")


async def test_who_asks_before_sending_need_not_send(keyed: Gateway) -> None:
    async with connected(keyed) as (reader, writer):
        writer.write(head(None, 25_000_000, b"expect: 100-continue"))
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 401")


async def test_bodies_without_a_key_are_not_held(keyed: Gateway) -> None:
    """Forty clients of 20 MB each: none of it stays, and each sees why."""
    chat(keyed, None)
    before = keyed.resident_bytes()
    size = 20_000_000

    async def send() -> bytes:
        async with connected(keyed) as (reader, writer):
            writer.write(head("pm-wrong-key", size))
            for _ in range(20):
                writer.write(b"x" * (size // 20))
                await writer.drain()
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            await reader.readuntil(b"}}")
            # The rest was taken, so the connection goes on.
            writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            return answer + await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    for _ in range(5):
        for answer in await asyncio.gather(*(send() for _ in range(8))):
            assert answer.startswith(b"HTTP/1.1 401")
            assert b"HTTP/1.1 200" in answer
    assert keyed.resident_bytes() - before < 40_000_000


async def test_an_endless_body_without_a_key_is_cut_off(keyed: Gateway) -> None:
    sent = 0
    async with connected(keyed) as (_, writer):
        writer.write(head(None, 10**12))
        try:
            while sent < 1_000_000_000:
                writer.write(b"x" * 1_000_000)
                await asyncio.wait_for(writer.drain(), 20)
                sent += 1_000_000
        except ConnectionError:
            pass
    assert sent < 200_000_000


@pytest.mark.parametrize("scheme", [b"Bearer ", b"Basic ", b""])
async def test_a_key_of_a_megabyte(keyed: Gateway, scheme: bytes) -> None:
    lines = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: " + scheme
    status, error = await answer_to(keyed, lines, *[b"k" * 65536] * 16, b"\r\n\r\n")
    assert (status, error["code"]) == (431, "caller_headers_too_large")


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize(
    "value",
    [
        b"Bearer " + b"pm-abcd-" + b"a" * 60_000,
        b"Bearer ' OR '1'='1' --",
        b"Bearer pm-' UNION SELECT hash FROM keys; ---x",
        b"Bearer pm-%00-x",
        b"Bearer \xff\xfe\xfd",
        b"Digest username=x",
        b"Bearer\tpm-a-b",
    ],
    ids=lambda value: str(value[:20]),
)
async def test_nonsense_for_a_key(keyed: Gateway, header: str, value: bytes) -> None:
    request = (
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        + header.encode() + b": " + value + b"\r\n\r\n"
    )  # fmt: skip
    status, error = await answer_to(keyed, request)
    assert (status, error["code"]) == (401, "invalid_api_key")
    assert len(error["message"]) < 200


# --- what goes up and what comes back ----------------------------------------------------------


def test_nothing_of_the_client_goes_upstream_but_its_body(
    keyed: Gateway, simulated: Control
) -> None:
    key = make(keyed)["key"]
    private = {
        "x-api-key": key,
        "api-key": "az",
        "cookie": f"session={key}",
        "proxy-authorization": f"Basic {key}",
        "x-forwarded-for": "203.0.113.7",
        "forwarded": "for=203.0.113.7",
        "openai-organization": "org-x",
        "x-goog-api-key": key,
        "connection": "x-hop",
        "x-hop": "1",
        "te": "trailers",
    }
    headers = {"authorization": f"Bearer {key}", **private}
    assert keyed.http.post("/v1/chat/completions", json=body(), headers=headers).status_code == 200
    sent = dict(simulated.log()[-1]["headers"])
    assert sent["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert not {name.lower() for name in sent} & (set(private) - {"connection"})
    assert key not in str(sent)


ELSEWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": ELSEWHERE},
        {"api_base": ELSEWHERE, "api_key": "sk-theirs"},
        {"extra_headers": {"host": "evil.example"}, "extra_query": {"x": "y"}},
        {"upstream": {"base_url": ELSEWHERE}},
        {"model": "auto", "user_config": {"model_list": [{"api_base": ELSEWHERE}]}},
    ],
    ids=str,
)
def test_no_field_chooses_where_a_request_goes(
    keyed: Gateway, simulated: Control, fields: dict[str, Any]
) -> None:
    assert chat(keyed, ADMIN, **fields).status_code == 200
    assert len(simulated.log()) == 1


@pytest.mark.parametrize(
    "model",
    [f"{ELSEWHERE}/small", "//evil.example/small", "../admin", "small?x=http://e", "small\r\n"],
)
def test_no_model_name_is_an_address(keyed: Gateway, simulated: Control, model: str) -> None:
    assert chat(keyed, ADMIN, model=model).status_code == 404
    assert simulated.log() == []


async def test_neither_target_nor_host_choose_where_a_request_goes(
    keyed: Gateway, simulated: Control
) -> None:
    content = orjson.dumps(body())
    for target in (b"http://evil.example/v1/chat/completions", b"/v1/chat/completions"):
        request = (
            b"POST " + target + b" HTTP/1.1\r\nhost: evil.example\r\nx-base-url: http://e/\r\n"
            b"x-forwarded-host: evil.example\r\nconnection: close\r\n"
            b"authorization: Bearer " + ADMIN.encode() + b"\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(content), content)
        )
        async with connected(keyed) as (reader, writer):
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))
    assert simulated.log()
    for one in simulated.log():
        assert dict(one["headers"])["host"].startswith("127.0.0.1:")


class Elsewhere(BaseHTTPRequestHandler):
    """Redirects chat requests to itself, and says much that is nobody's business."""

    status = 302
    stolen: list[str] = []  # noqa: RUF012 - the class is made anew for each server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.path.startswith("/stolen"):
            self.stolen.append(str(self.headers))
        redirects = 300 <= self.status < 400
        content = b"" if redirects else orjson.dumps(
            {"id": "x", "object": "chat.completion", "model": "m", "choices": []}
        )  # fmt: skip
        self.send_response(self.status)
        if redirects:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/stolen")  # type: ignore[attr-defined]
        self.send_header("content-length", str(len(content)))
        self.send_header("content-type", "application/json")
        self.send_header("set-cookie", "session=theirs")
        self.send_header("authorization", f"Bearer {UPSTREAM_KEY}")
        self.send_header("x-api-key", UPSTREAM_KEY)
        self.send_header("openai-organization", "org-theirs")
        self.send_header("keep-alive", "timeout=5")
        self.send_header("x-pointsman-cost-usd", "0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Elsewhere,), {"stolen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def of(server: ThreadingHTTPServer) -> str:
    return (
        f"upstreams: {{{{u: {{{{kind: openai, base_url: 'http://127.0.0.1:{server.server_port}/v1',"
        f" api_key: {UPSTREAM_KEY}}}}}}}}}\nmodels: {{{{m: {{{{upstream: u}}}}}}}}\n"
        "ledger: null\n"
    )


def test_redirects_are_not_followed(gateway: Serve, elsewhere: ThreadingHTTPServer) -> None:
    one, handler = gateway(of(elsewhere)), elsewhere.RequestHandlerClass
    for status in (301, 302, 303, 307, 308):
        handler.status = status  # type: ignore[attr-defined]
        for stream in (False, True):
            answer = one.chat(model="m", stream=stream)
            assert answer.status_code == 502
            assert answer.json()["error"]["code"] == "upstream_malformed"
            assert "location" not in answer.headers
    assert handler.stolen == []  # type: ignore[attr-defined]


def test_nothing_comes_back_of_the_upstreams_headers(
    gateway: Serve, elsewhere: ThreadingHTTPServer
) -> None:
    elsewhere.RequestHandlerClass.status = 200  # type: ignore[attr-defined]
    answer = gateway(of(elsewhere)).chat(model="m")
    assert answer.status_code == 200
    ours = {name for name in answer.headers if not name.startswith("x-pointsman-")}
    assert ours == {"content-type", "content-length"}
    assert "x-pointsman-cost-usd" not in answer.headers
    assert UPSTREAM_KEY not in str(answer.headers)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 500])
def test_an_upstream_that_quotes_our_key_is_not_quoted(
    keyed: Gateway, simulated: Control, status: int
) -> None:
    key = {"message": f"Incorrect API key provided: {UPSTREAM_KEY}", "code": "x", "type": "y"}
    simulated.script(times=3, status=status, error={"error": key})
    answer = chat(keyed, ADMIN)
    assert answer.status_code >= 400
    assert UPSTREAM_KEY not in answer.text
    assert UPSTREAM_KEY not in keyed.new_log()


def test_an_answer_that_quotes_our_key_is_withheld(keyed: Gateway, simulated: Control) -> None:
    simulated.script("up-small", text=f"Your {UPSTREAM_KEY}!")
    answer = chat(keyed, ADMIN)
    assert answer.headers["x-pointsman-model"] == "medium"
    assert UPSTREAM_KEY not in answer.text


def test_a_stream_that_begins_with_our_key_is_withheld(keyed: Gateway, simulated: Control) -> None:
    choice = {"index": 0, "delta": {"content": UPSTREAM_KEY}}
    event = orjson.dumps({"id": "x", "model": "m", "choices": [choice]}).decode()
    simulated.script("up-small", raw_sse=[f"data: {event}\n\n", "data: [DONE]\n\n"])
    answer = chat(keyed, ADMIN, stream=True)
    assert answer.headers["x-pointsman-model"] == "medium"
    assert UPSTREAM_KEY not in answer.text


def test_a_stream_that_quotes_our_key_later_is_broken_off(
    keyed: Gateway, simulated: Control
) -> None:
    def event(text: str) -> str:
        choice = {"index": 0, "delta": {"content": text}}
        return f"data: {orjson.dumps({'id': 'x', 'model': 'm', 'choices': [choice]}).decode()}\n\n"

    events = [event("fine"), event(UPSTREAM_KEY), event("more"), "data: [DONE]\n\n"]
    simulated.script("up-small", raw_sse=events, chunk_delay_seconds=0.05)
    answer = chat(keyed, ADMIN, stream=True)
    assert "fine" in answer.text
    assert "upstream_malformed" in answer.text
    assert UPSTREAM_KEY not in answer.text
    assert "more" not in answer.text


# --- nothing in clear --------------------------------------------------------------------------


def test_no_key_is_written_anywhere(gateway: Serve, simulated: Control) -> None:
    one = gateway(STANDARD + "# whose every trace is read\n", "--log-level", "debug",
                  POINTSMAN_ADMIN_KEY=ADMIN)  # fmt: skip
    made = make(one, name="n")
    rotated = admin(one, "POST", f"/{made['id']}/rotate").json()["key"]
    wrong = "pm-wrong-" + "w" * 32
    texts = [made["key"], rotated, wrong, ADMIN, UPSTREAM_KEY]
    said = []
    kinds: list[dict[str, Any]] = [
        {}, {"model": "nothing"}, {"messages": 1}, {"stream": True}, {"x_simulate": 1},
    ]  # fmt: skip
    paths = ("/v1/models", "/v1/models/x", "/metrics", "/admin/keys")
    for key in (*texts[:4], f"{made['key']}x"):
        said += [chat(one, key, **fields) for fields in kinds]
        for path in (*paths, f"/{key}"):
            said.append(one.http.get(path, headers={"x-api-key": key}))
    admin(one, "DELETE", f"/{made['id']}")
    said.append(chat(one, made["key"]))
    log = one.new_log()
    told = "\n".join(f"{answer.headers}\n{answer.text}" for answer in said)
    assert f"key {made['id']} was made by admin" in log
    for text in texts:
        secret = text.removeprefix(f"pm-{made['id']}-")
        assert secret not in log
    # A path is quoted when it is unknown; nothing else of what was sent is.
    for text in texts:
        assert text not in told.replace(f"No such path: /{text}", "")
    files = [file for file in Path(one.folder).rglob("*") if file.is_file()]
    assert [file for file in files if file.suffix == ".db"]
    for file in files:
        if file.name == "config.yaml":
            continue
        content = file.read_bytes()
        for text in texts:
            assert text.removeprefix(f"pm-{made['id']}-").encode() not in content, file
    (database,) = [file for file in files if file.name == "ledger.db"]
    with closing(sqlite3.connect(database)) as connection:
        rows = repr(connection.execute("SELECT * FROM keys").fetchall())
    assert made["id"] in rows
    assert not any(text.removeprefix(f"pm-{made['id']}-") in rows for text in texts)
