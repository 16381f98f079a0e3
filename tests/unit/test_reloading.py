"""What a reload takes over, what it refuses, and how a change of the file is noticed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from app import opened, reloading
from app.api.configuration import written
from app.api.serving import Active, Serving
from app.compiling import Compiled, compile_config
from app.config import document
from app.config.load import Loaded, load, loads
from app.config.schema import Config
from app.errors import ConfigRefused
from app.reloading import Reloader, needs_restart
from app.routing.artifact import Artifact
from app.telemetry.metrics import Metrics

TEXT = """
server: {watch_config: true}
upstreams: {u: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}
models: {small: {upstream: u}, large: {upstream: u}}
routes: {auto: {candidates: [small, large], router: null}}
ledger: null
"""
OTHER = TEXT.replace("[small, large]", "[large, small]")
WRONG = TEXT.replace("[small, large]", "[smal, large]")


class World:
    """A reloader over a file, whose pipelines do nothing."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.metrics = Metrics(CollectorRegistry())
        loaded = load(file)
        compiled = compile_config(loaded)
        self.serving = Serving(self._active(loaded, compiled, 1))
        self.reloader = Reloader(self.serving, compiled.opened, self._build, self.metrics)

    async def _build(self, loaded: Loaded, compiled: Compiled, former: Active) -> Active:
        return self._active(loaded, compiled, former.version + 1)

    def _active(self, loaded: Loaded, compiled: Compiled, version: int) -> Active:
        nothing: Any = None
        told = loaded.document
        return Active(nothing, compiled.config, told.file, told.digest, version, 0.0)

    @property
    def first(self) -> str:
        """The first candidate of `auto`."""
        return self.serving.active.config.routes["auto"].candidates[0]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    async def comes_to(self, version: int) -> None:
        await until(lambda: self.serving.active.version == version)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("did not come to hold")


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "config.yaml").write_text(TEXT)
    return World(tmp_path / "config.yaml")


async def test_a_change_is_taken_and_told(world: World) -> None:
    former = world.serving.active.digest[:12]
    world.file.write_text(OTHER)
    done = await world.reloader.reload()
    assert (done.changed, done.active, world.first) == (True, world.serving.active, "large")
    assert world.serving.active.version == 2
    assert world.metric("pointsman_config", hash=done.active.digest[:12]) == 1
    assert world.metric("pointsman_config", hash=former) is None


async def test_what_has_not_changed_is_no_new_version(world: World) -> None:
    done = await world.reloader.reload()
    assert (done.changed, world.serving.active.version) == (False, 1)
    assert world.metric("pointsman_config_last_reload_success_timestamp_seconds") or 0 > 0


async def test_what_is_wrong_changes_nothing(world: World) -> None:
    before = world.serving.active
    world.file.write_text(WRONG)
    with pytest.raises(ConfigRefused, match="did you mean `small`") as refused:
        await world.reloader.reload()
    assert refused.value.param == "routes.auto.candidates[0]"
    assert world.serving.active is before
    assert world.metric("pointsman_config_last_reload_successful") == 0
    assert world.metric("pointsman_config", hash=before.digest[:12]) == 1


async def test_two_at_once_take_turns(world: World) -> None:
    world.file.write_text(OTHER)
    done = await asyncio.gather(world.reloader.reload(), world.reloader.reload())
    assert [one.changed for one in done] == [True, False]


# --- watching ------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 0.01)


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def renamed(file: Path, text: str) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("write", [in_place, renamed])
async def test_a_file_that_is_written_is_noticed(world: World, write: Any) -> None:
    async with world.reloader.running():
        write(world.file, OTHER)
        await world.comes_to(2)
        write(world.file, WRONG)
        await until(lambda: world.metric("pointsman_config_last_reload_successful") == 0)
        assert world.serving.active.version == 2
        write(world.file, TEXT)
        await world.comes_to(3)


@pytest.mark.usefixtures("at_once")
async def test_a_directory_that_is_swapped_by_its_link_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes does with a ConfigMap."""
    for name, text in (("one", TEXT), ("two", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "config.yaml").symlink_to("data/config.yaml")
    world = World(tmp_path / "config.yaml")
    async with world.reloader.running():
        (tmp_path / "fresh").symlink_to("two")
        (tmp_path / "fresh").replace(tmp_path / "data")
        await world.comes_to(2)
        assert world.first == "large"


@pytest.mark.usefixtures("at_once")
async def test_nobody_looks_where_it_is_not_asked_for(world: World) -> None:
    world.file.write_text(TEXT.replace("true", "false"))
    await world.reloader.reload()
    looks = 0

    async def look() -> bool:
        nonlocal looks
        looks += 1
        return True

    async with world.reloader.running():
        world.reloader._has_changed = look  # type: ignore[method-assign]
        world.file.write_text(OTHER)
        await asyncio.sleep(0.1)
    assert looks == 0


@pytest.mark.usefixtures("at_once")
async def test_what_changed_while_it_started_is_taken(world: World) -> None:
    world.file.write_text(OTHER)
    async with world.reloader.running():
        await world.comes_to(2)


# --- what needs a restart --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("{watch_config: true}", "{host: localhost}", "server.host"),
        ("{watch_config: true}", "{port: 1}", "server.port"),
        ("{watch_config: true}", "{workers: 2}", "server.workers"),
        ("ledger: null", "ledger: {}", "ledger"),
        ("ledger: null", "redis: {url: 'redis://x'}\nledger: null", "redis"),
        ("{kind: openai, base_url: 'http://127.0.0.1:9/v1'}", "{kind: simulated}", "upstreams.u"),
    ],
)
def test_what_needs_a_restart(old: str, new: str, path: str) -> None:
    text = TEXT.replace('"', "'")
    changed = text.replace(old, new)
    assert changed != text
    (problem,) = needs_restart(loads(text).config, loads(changed))
    assert problem.path == path
    assert "restart" in str(problem)
    assert not [*needs_restart(loads(text).config, loads(text))]


def test_another_place_of_the_ledger_needs_a_restart() -> None:
    text = TEXT.replace("ledger: null", "ledger: {url: 'sqlite:///a.db', journal: a}")
    changed = text.replace("a.db", "b.db").replace("journal: a", "journal: b")
    told = [problem.path for problem in needs_restart(loads(text).config, loads(changed))]
    assert told == ["ledger.url", "ledger.journal"]


# --- what is not opened twice ------------------------------------------------------------------

ROUTED = TEXT.replace(", router: null", "").replace("small", "gpt-4-1106-preview")


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which routers are read from disk."""
    read: list[Path] = []
    load_artifact = opened.load_artifact

    def noted(directory: Path) -> Artifact:
        read.append(directory)
        return load_artifact(directory)

    monkeypatch.setattr(opened, "load_artifact", noted)
    return read


def test_a_router_an_encoder_and_estimates_are_kept(opens: list[Path]) -> None:
    one = compile_config(loads(ROUTED))
    two = compile_config(loads(ROUTED + "limits: {requests_per_minute: 5}"), one.opened)
    assert len(opens) == 1
    assert two.encoder is one.encoder
    assert two.names.routes["auto"].estimator is one.names.routes["auto"].estimator
    assert not two.opened.has_new
    other = compile_config(loads(ROUTED.replace("large: {", "large: {quality: 0.5, ")), two.opened)
    assert len(opens) == 1
    assert other.names.routes["auto"].estimator is not two.names.routes["auto"].estimator
    assert other.opened.has_new
    assert not other.opened._before


def test_a_router_that_was_trained_again_is_opened_again(opens: list[Path], tmp_path: Path) -> None:
    for file in Path("router_models/default").iterdir():
        (tmp_path / file.name).symlink_to(file.resolve())
    text = ROUTED.replace("auto: {", f"auto: {{router: {tmp_path}, ")
    one = compile_config(loads(text))
    manifest = tmp_path / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.write_bytes(content)
    two = compile_config(loads(text), one.opened)
    assert opens == [tmp_path, tmp_path]
    assert two.encoder is one.encoder


# --- what is shown -----------------------------------------------------------------------------

MARK = "mark-of-a-secret"


def active_of(config: Config) -> Active:
    nothing: Any = None
    return Active(nothing, config, "config.yaml", "0" * 64, 1, 0.0)


def marked(value: Any) -> Any:
    """A configuration's values with a mark in every secret, and how many there are."""
    if isinstance(value, SecretStr):
        return SecretStr(MARK)
    if isinstance(value, dict):
        return {key: marked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [marked(inner) for inner in value]
    if hasattr(value, "model_fields_set"):
        changes = {name: marked(getattr(value, name)) for name in value.model_fields_set}
        return value.model_copy(update=changes)
    return value


class AnyVariable(dict[str, str]):
    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "redis://somewhere" if "REDIS" in name else "something"


def test_no_secret_of_the_full_configuration_is_shown() -> None:
    source = Path("configs/full.yaml").read_text()
    assert "\nkeys:" not in source  # they stand there as comments
    source += "keys: [{id: k3x7qzm2aa, hash: 'blake2b:0a1b2c3d:" + "ab" * 32 + "'}]\n"
    parsed = document.parse(source, "full.yaml", AnyVariable())
    config = marked(Config.model_validate(parsed.values))
    told = str(written(active_of(config)))
    assert MARK not in told
    assert "ab" * 32 not in told
    assert told.count("**********") >= 6
    assert "gpt-4o" in told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:hidden@host:5432/db", "postgresql://me:**********@host:5432/db"),
        ("postgresql://me:hid@den@host/db", "postgresql://me:**********@host/db"),
        ("postgresql://host/db?password=hidden", "postgresql://host/db?**********"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////a/ledger.db", "sqlite:////a/ledger.db"),
    ],
)
def test_the_database_is_shown_without_its_password(url: str, told: str) -> None:
    config = loads(TEXT.replace("ledger: null", f"ledger: {{url: '{url}'}}")).config
    assert written(active_of(config))["ledger"]["url"] == told
