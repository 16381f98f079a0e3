"""Clear prompts are answered without the encoder, unclear ones with it, and the metrics say so.

The gateway runs in a thread of this process, so that its router and encoder can be known ones.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from app import assembly, opened
from app.config.load import loads
from app.simulated.control import Control
from app.simulated.serving import open_socket
from tests.gateway.conftest import body, eventually
from tests.readers import CountingEncoder, ReaderArtifact

TEXT = """
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models:
  small: {{upstream: sim, prices: {{input: 0.1, output: 0.4}}}}
  large: {{upstream: sim, prices: {{input: 5, output: 20}}}}
routes:
  auto: {{candidates: [small, large]}}
  thorough: {{candidates: [small, large], encode: always}}
  fast: {{candidates: [small, large], encode: never}}
ledger: null
"""


class Known:
    """A gateway before the scripted upstream, with the router of `tests.readers`."""

    def __init__(self, url: str, encoder: CountingEncoder) -> None:
        self.http = httpx2.Client(base_url=url, timeout=30)
        self.encoder = encoder

    def ask(self, text: str, model: str = "auto") -> tuple[str, str]:
        """Which model served, and what was read for it."""
        answer = self.http.post(
            "/v1/chat/completions",
            json=body(model=model, messages=[{"role": "user", "content": text}]),
            headers={"x-pointsman-debug": "true"},
        )
        assert answer.status_code == 200
        return answer.headers["x-pointsman-model"], answer.headers["x-pointsman-speed"]

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.http.get("/metrics").text)
        samples = (sample for family in families for sample in family.samples)
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )


@contextmanager
def served(text: str, encoder: CountingEncoder) -> Iterator[Known]:
    app = assembly.application(loads(text))
    listening = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, http="app.api.protocol:BoundedProtocol", ws="none", log_config=None)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        encoder.encoded.clear()  # the warm-up
        known = Known(f"http://127.0.0.1:{listening.getsockname()[1]}", encoder)
        with known.http:
            yield known
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        gc.unfreeze()  # what a gateway freezes for its life is this process's


@pytest.fixture
def known(simulated: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[Known]:
    encoder = CountingEncoder()
    monkeypatch.setattr(opened, "load_artifact", lambda _: ReaderArtifact())
    monkeypatch.setattr(opened.Opened, "encoder", lambda *_: encoder)
    with ExitStack() as stack:
        yield stack.enter_context(served(TEXT.format(upstream=simulated.base_url), encoder))


def test_only_unclear_prompts_are_encoded(known: Known) -> None:
    for number in range(6):
        assert known.ask(f"plain {number}") == ("small", "text")
    for number in range(3):
        assert known.ask(f"unclear {number}") == ("large", "encoded")
    assert known.ask("unclear 0") == ("large", "cached")
    assert known.ask("named", model="small") == ("small", "none")
    assert known.encoder.encoded == ["unclear 0", "unclear 1", "unclear 2"]
    counted = {
        speed: known.metric("pointsman_predictions_total", route="auto", speed=speed)
        for speed in ("text", "encoded", "cached")
    }
    assert counted == {"text": 6, "encoded": 3, "cached": 1}
    assert known.metric("pointsman_predictions_total") == 10
    assert known.metric("pointsman_encode_seconds_count") == 3


def test_a_route_says_when_to_encode(known: Known) -> None:
    assert known.ask("plain", model="thorough") == ("large", "encoded")
    assert known.ask("unclear", model="fast") == ("small", "text")
    assert known.encoder.encoded == ["plain"]


def test_the_decision_door_shows_what_chat_would_do(known: Known) -> None:
    for text, model, speed in (("plain", "small", "text"), ("unclear", "large", "encoded")):
        asked = body(messages=[{"role": "user", "content": text}])
        told = known.http.post("/v1/decision", json=asked).json()
        assert (told["model"], told["speed"], len(told["neighbours"])) == (model, speed, 5)
        assert known.ask(text)[0] == model
    assert known.metric("pointsman_predictions_total", speed="text") == 1
