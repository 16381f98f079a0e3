"""Keys at the real doors: who gets in, where to, and how soon a change holds everywhere."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from openai import AuthenticationError, OpenAI, PermissionDeniedError

from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, body, eventually, free_port

ADMIN = "admin-key-of-these-tests"
SECRET = "a key secret of thirty-two characters or more"


@pytest.fixture
def keyed(gateway: Serve) -> Gateway:
    return gateway(STANDARD, POINTSMAN_ADMIN_KEY=ADMIN)


def admin(one: Gateway, method: str, path: str = "", **fields: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {ADMIN}"}
    json = None if method in ("GET", "DELETE") else fields
    return one.http.request(method, f"/admin/keys{path}", headers=headers, json=json)


def make(one: Gateway, **fields: Any) -> dict[str, Any]:
    answer = admin(one, "POST", **fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def chat(one: Gateway, key: str | None, **fields: Any) -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return one.http.post("/v1/chat/completions", json=body(**fields), headers=headers)


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "keys", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_client_library_is_let_in_and_kept_out(keyed: Gateway) -> None:
    key = make(keyed, routes=["auto"])["key"]
    messages: Any = [{"role": "user", "content": "x"}]
    with OpenAI(base_url=keyed.base_url, api_key=key, max_retries=0) as client:
        assert client.chat.completions.create(model="auto", messages=messages).choices
        assert [model.id for model in client.models.list()] == ["auto", "smart"]
        with pytest.raises(PermissionDeniedError) as scope:
            client.chat.completions.create(model="large", messages=messages)
        assert scope.value.code == "caller_out_of_scope"
    with OpenAI(base_url=keyed.base_url, api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(AuthenticationError) as refused:
            client.chat.completions.create(model="auto", messages=messages)
        assert refused.value.code == "invalid_api_key"


def test_every_door_asks(keyed: Gateway, simulated: Control) -> None:
    for method, path in (
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/decision"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/auto"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/metrics"),
        ("GET", "/admin/keys"),
        ("POST", "/admin/keys"),
        ("PATCH", "/admin/keys/abcd"),
        ("DELETE", "/admin/keys/abcd"),
        ("POST", "/admin/keys/abcd/rotate"),
        ("GET", "/%61dmin/keys"),
        ("GET", "/nowhere"),
    ):
        answer = keyed.http.request(method, path, json=body() if method == "POST" else None)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (401, "invalid_api_key"), path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-pointsman-request-id"].startswith("req_")
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert keyed.http.get(path).status_code == 200
    assert simulated.log() == []


def test_a_refusal_is_counted(keyed: Gateway) -> None:
    keyed.http.headers["authorization"] = f"Bearer {ADMIN}"
    before = keyed.metric("pointsman_requests_total", code="401")
    assert chat(keyed, "pm-wrong-key").status_code == 401
    assert keyed.metric("pointsman_requests_total", code="401") == before + 1
    del keyed.http.headers["authorization"]


def test_scopes(keyed: Gateway) -> None:
    reader = make(keyed, routes=[], models=[], metrics=True)["key"]
    chief = make(keyed, routes=[], admin=True)["key"]
    pinned = make(keyed, models=["small"])["key"]
    for key, door, status in (
        (reader, "/metrics", 200), (reader, "/admin/keys", 403), (chief, "/admin/keys", 200),
        (chief, "/metrics", 200), (pinned, "/metrics", 403), (pinned, "/v1/models/small", 200),
        (pinned, "/v1/models/auto", 403), (pinned, "/v1/models/nothing", 403),
    ):  # fmt: skip
        answer = keyed.http.get(door, headers={"x-api-key": key})
        assert answer.status_code == status, (door, answer.text)
    assert chat(keyed, reader).status_code == 403
    assert chat(keyed, pinned, model="small").status_code == 200
    said = chat(keyed, pinned, model="auto").json()["error"]["message"]
    assert said.endswith("it may ask for: small.")
    decision = keyed.http.post("/v1/decision", json=body(), headers={"x-api-key": pinned})
    assert decision.status_code == 403


def test_the_life_of_a_key(keyed: Gateway) -> None:
    made = make(keyed, name="blue", tags=["x"], limits={"usd_per_day": 1})
    key, path = made["key"], f"/{made['id']}"
    assert chat(keyed, key).status_code == 200
    told = admin(keyed, "GET", path).json()
    assert (told["name"], told["tags"], told["status"]) == ("blue", ["x"], "active")
    assert told["limits"]["usd_per_day"] == "1"
    assert admin(keyed, "PATCH", path, routes=["auto"]).json()["models"] == []
    assert chat(keyed, key, model="small").status_code == 403
    assert admin(keyed, "PATCH", path, routes=None).json()["tags"] == ["x"]
    assert chat(keyed, key, model="small").status_code == 200
    second = admin(keyed, "POST", f"{path}/rotate", grace_seconds=60).json()["key"]
    assert [chat(keyed, one).status_code for one in (key, second)] == [200, 200]
    third = admin(keyed, "POST", f"{path}/rotate", grace_seconds=0).json()["key"]
    assert [chat(keyed, one).status_code for one in (key, second, third)] == [401, 401, 200]
    assert "replaced" in chat(keyed, second).json()["error"]["message"]
    assert admin(keyed, "DELETE", path).json()["status"] == "revoked"
    assert "revoked" in chat(keyed, third).json()["error"]["message"]
    assert admin(keyed, "PATCH", path, name="y").json()["error"]["code"] == "caller_key_is_fixed"
    listed = admin(keyed, "GET").json()["data"]
    assert made["id"] in [one["id"] for one in listed]
    assert not {"key", "hash"} & {field for one in listed for field in one}


def test_a_request_is_booked_under_its_key(keyed: Gateway) -> None:
    made = make(keyed, tags=["blue", "night"])
    request_id = chat(keyed, made["key"]).headers["x-pointsman-request-id"]

    def booked() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(keyed.folder / ".pointsman" / "ledger.db")) as connection:
            query = "SELECT key_id, tags FROM requests WHERE id = ?"
            return connection.execute(query, [request_id]).fetchall()

    eventually(lambda: booked() == [(made["id"], '["blue","night"]')], 10)


def test_expiry(keyed: Gateway) -> None:
    soon = time.time() + 1.0
    key = make(keyed, expires=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(soon + 1)))["key"]
    assert chat(keyed, key).status_code == 200
    eventually(lambda: chat(keyed, key).status_code == 401, 10)
    assert "expired on" in chat(keyed, key).json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"routes": ["nothing"]}, "routes"),
        ({"models": ["small'; DROP TABLE keys; --"]}, "models.0"),
        ({"name": "x\r\nset-cookie: y"}, "name"),
        ({"tags": ["a\u0000b"]}, "tags.0"),
        ({"tags": ["none"]}, "tags.0"),
        ({"expires": "2020-01-01"}, "expires"),
        ({"expires": 1}, "expires"),
        ({"limits": {"usd_per_day": -1}}, "limits.usd_per_day"),
        ({"limits": {"usd_per_day": "1e400"}}, "limits.usd_per_day"),
        ({"limits": {"requests_per_minute": 10**30}}, "limits.requests_per_minute"),
        ({"admin": "yes please"}, "admin"),
        ({"hash": "blake2b:"}, "hash"),
        ({"id": "abcd"}, "id"),
    ],
    ids=str,
)
def test_wrong_terms_are_named(keyed: Gateway, fields: dict[str, Any], param: str) -> None:
    before = len(admin(keyed, "GET").json()["data"])
    answer = admin(keyed, "POST", **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert len(admin(keyed, "GET").json()["data"]) == before


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"name":1}', b"x" * 300_000])
def test_wrong_bodies(keyed: Gateway, content: bytes) -> None:
    headers = {"authorization": f"Bearer {ADMIN}"}
    answer = keyed.http.post("/admin/keys", content=content, headers=headers)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"].startswith("caller_")


@pytest.mark.parametrize("key_id", ["nothing", "x'%20OR%20'1'='1", "%00", "..%2f..", "a" * 5000])
def test_unknown_ids(keyed: Gateway, key_id: str) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        answer = admin(keyed, method, f"/{key_id}{path}")
        assert answer.status_code == 404
        assert len(answer.content) < 600


def test_the_command_line_and_a_running_gateway(keyed: Gateway) -> None:
    config = ("--config", str(keyed.folder / "config.yaml"))
    made = cli("create", *config, "--route", "smart", "--tag", "t", "--expires", "30d", "--json")
    assert made.returncode == 0, made.stderr
    told = orjson.loads(made.stdout)
    # Unknown until now: the gateway looks at once, before it refuses.
    assert chat(keyed, told["key"]).status_code == 200
    listed = orjson.loads(cli("list", *config, "--json").stdout)
    assert told["id"] in [one["id"] for one in listed]
    rotated = cli("rotate", told["id"], *config, "--grace", "0s")
    assert rotated.returncode == 0, rotated.stderr
    new = rotated.stdout.strip()
    assert chat(keyed, new).status_code == 200
    eventually(lambda: chat(keyed, told["key"]).status_code == 401, 1)
    assert cli("revoke", told["id"], *config).returncode == 0
    eventually(lambda: chat(keyed, new).status_code == 401, 1)
    wrong = cli("revoke", "nothing", *config)
    assert (wrong.returncode, wrong.stderr) == (2, "pointsman: There is no key `nothing`.\n")


def test_the_command_line_needs_the_gateways_secret(keyed: Gateway) -> None:
    make(keyed)
    config = ("--config", str(keyed.folder / "config.yaml"))
    wrong = cli("create", *config, POINTSMAN_KEY_SECRET=SECRET)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "another key secret" in wrong.stderr


def test_a_first_key_closes_an_open_gateway(gateway: Serve) -> None:
    one = gateway(STANDARD + "# of its own\n")
    assert chat(one, None).status_code == chat(one, "sk-unused").status_code == 200
    refused = one.http.get("/admin/keys")
    assert refused.status_code == 401
    assert "start it with POINTSMAN_ADMIN_KEY" in refused.text
    foreign = one.http.post(
        "/v1/chat/completions", json=body(), headers={"origin": "https://x.org"}
    )
    assert foreign.json()["error"]["code"] == "caller_foreign_origin"
    key = cli("create", "--config", str(one.folder / "config.yaml")).stdout.strip()
    eventually(lambda: chat(one, None).status_code == 401, 1)
    assert chat(one, key).status_code == 200
    assert one.http.get("/metrics").status_code == 401


def test_a_database_that_can_not_be_opened(gateway: Serve, tmp_path: Path) -> None:
    """Nobody made a key: served. Somebody did: neither served nor called wrong."""
    for name, keyed in (("without", False), ("with", True)):
        database = tmp_path / f"{name}.db"
        if keyed:
            file = tmp_path / "config.yaml"
            text = STANDARD + f"ledger: {{{{url: 'sqlite:///{database}'}}}}\n"
            file.write_text(text.format(upstream="http://127.0.0.1:9/v1"))
            key = cli("create", "--config", str(file), POINTSMAN_KEY_SECRET=SECRET).stdout.strip()
        database.write_bytes(b"this is no database" * 1000)
        one = gateway(
            STANDARD + f"ledger: {{{{url: 'sqlite:///{database}'}}}}\n",
            POINTSMAN_KEY_SECRET=SECRET,
        )
        if not keyed:
            assert chat(one, None).status_code == 200
            continue
        for sent in (None, key):
            answer = chat(one, sent)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "gateway_keys_unavailable"
            assert answer.headers["retry-after"] == "1"
        assert key not in one.new_log()


def test_keys_of_the_yaml_need_no_database(gateway: Serve, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = STANDARD + "ledger: null\n"
    file.write_text(text.format(upstream="http://127.0.0.1:9/v1"))
    made = cli(
        "hash", "--config", str(file), "--model", "small", "--name", "n", "--json",
        POINTSMAN_KEY_SECRET=SECRET,
    )  # fmt: skip
    told = orjson.loads(made.stdout)
    entry = orjson.dumps([told["entry"]]).decode().replace("{", "{{").replace("}", "}}")
    one = gateway(text + f"keys: {entry}\n", POINTSMAN_KEY_SECRET=SECRET, POINTSMAN_ADMIN_KEY=ADMIN)
    assert chat(one, told["key"], model="small").status_code == 200
    assert chat(one, told["key"]).status_code == 403
    assert chat(one, None).status_code == 401
    (listed,) = admin(one, "GET").json()["data"]
    assert (listed["id"], listed["source"]) == (told["entry"]["id"], "config")
    fixed = admin(one, "DELETE", f"/{listed['id']}")
    assert (fixed.status_code, fixed.json()["error"]["code"]) in (
        (409, "caller_key_is_fixed"), (409, "caller_no_database"),
    )  # fmt: skip
    assert admin(one, "POST").json()["error"]["code"] == "caller_no_database"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_revocation_holds_on_all_replicas_within_a_second(
    gateway: Serve, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/shared.db"
    else:
        url = request.getfixturevalue("postgres").database()
    text = STANDARD + f"ledger: {{{{url: '{url}'}}}}\n"
    environment = {"POINTSMAN_ADMIN_KEY": ADMIN, "POINTSMAN_KEY_SECRET": SECRET}
    first = gateway(text, **environment)
    second = gateway(text, "--workers", "2", **environment)

    def statuses(one: Gateway, key: str) -> set[int]:
        """A connection each, so that every worker is asked."""
        found = set()
        for _ in range(6):
            with httpx2.Client(base_url=one.url, timeout=30) as http:
                found.add(http.get("/v1/models", headers={"x-api-key": key}).status_code)
        return found

    for _ in range(3):
        made = make(first)
        # Made on one replica, it is good on the other at once, whichever worker is asked.
        assert statuses(second, made["key"]) == {200}
        revoked = time.monotonic()
        assert admin(second, "DELETE", f"/{made['id']}").status_code == 200
        time.sleep(max(0.0, revoked + 1.0 - time.monotonic()))
        assert statuses(first, made["key"]) == statuses(second, made["key"]) == {401}


def served(tmp_path: Path, text: str, *arguments: str, **environment: str) -> Any:
    """How `serve` ends that should not begin."""
    file = tmp_path / "config.yaml"
    file.write_text(text.format(upstream="http://127.0.0.1:9/v1"))
    command = [sys.executable, "-m", "app.cli", "serve", "--config", str(file)]
    return subprocess.run(
        [*command, "--port", str(free_port()), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_keys_no_other_address_is_served(tmp_path: Path, host: str, workers: str) -> None:
    done = served(tmp_path, STANDARD, "--host", host, "--workers", workers)
    assert done.returncode == 2
    assert f"whoever reaches {host} could spend your money" in done.stderr
    assert "server.allow_anonymous" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_admin_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    done = served(tmp_path, STANDARD, POINTSMAN_ADMIN_KEY="hunter2")
    assert done.returncode == 2
    assert "POINTSMAN_ADMIN_KEY: is shorter than 16" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("allow", ["true", "false"])
def test_who_says_so_may_serve_any_address(gateway: Serve, allow: str) -> None:
    text = STANDARD + f"server: {{{{host: 0.0.0.0, allow_anonymous: {allow}}}}}\n"
    one = gateway(text)
    assert chat(one, None).status_code == (200 if allow == "true" else 401)
