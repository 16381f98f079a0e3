"""Grafana's dashboards before a real Prometheus that scrapes gateways under traffic: every query of
every panel finds data, and the figures are the gateways' own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from ruamel.yaml import YAML

from app.delivery.recent import LEAST_TIMES
from app.simulated.control import Control
from deploy.grafana.build import FOLDER, build
from tests.deploy.promtool import program
from tests.gateway.conftest import Gateway, Serve, eventually, free_port

CONFIG = """
upstreams:
  sim: {{kind: openai, base_url: {upstream}, retries: {{base_seconds: 0.01}}}}
  gone:
    kind: openai
    base_url: "http://127.0.0.1:9/v1"
    breaker: {{min_requests: 1, open_seconds: 0.05, max_open_seconds: 0.05}}
models:
  small:
    upstream: sim
    prices: {{input: 0.1, cached_input: 0.05, output: 0.4}}
    like: gemini-1.5-flash-002
    capabilities: [tools]
  large:
    upstream: sim
    prices: {{input: 5, cached_input: 0.5, output: 20}}
    like: gemini-1.5-pro-002
  ghost: {{upstream: gone, prices: {{input: 0.01, output: 0.01}}, quality: 0.9}}
  spread:
    deployments: [{{upstream: sim, id: east}}, {{upstream: sim, id: west, priority: 1}}]
    prices: {{input: 0.1, output: 0.4}}
    quality: 0.9
routes:
  auto: {{candidates: [small, large], baseline: large, encode: always}}
  dear: {{candidates: [large], baseline: small, router: null, objective: {{kind: quality}}}}
  falls: {{candidates: [ghost], fallbacks: [small], router: null}}
  tight: {{candidates: [small], router: null, limits: {{requests_per_minute: 4}}}}
  poor: {{candidates: [small], router: null, limits: {{usd_in_all: 0.0003, soft_share: 0.01}}}}
  kept: {{candidates: [small], router: null, cache: {{max_temperature: 1}}}}
  hasty: {{candidates: [spread], router: null, hedge: {{min_seconds: 0.05, budget_share: 1}}}}
"""
ALONE = """
server: {{max_concurrent_requests: 1, queue_requests: 1, queue_seconds: 0.1}}
upstreams: {{sim: {{kind: openai, base_url: {upstream}}}}}
models: {{small: {{upstream: sim, prices: {{input: 0.1, output: 0.4}}, quality: 0.9}}}}
routes: {{auto: {{candidates: [small], router: null, limits: {{requests_per_minute: 600}}}}}}
ledger: {{url: "postgresql://nobody@127.0.0.1:9/nowhere"}}
redis: {{url: "redis://127.0.0.1:9/0"}}
"""
"""Neither its database nor its Redis is there."""

KEY = "a-key-for-the-tests-alone"
LATE_SECONDS = 0.4
RULES = Path("deploy/prometheus/rules").absolute()
DASHBOARDS = {name: orjson.loads(content) for name, content in build().items()}
PANELS = [
    pytest.param(panel, id=f"{name.removesuffix('.json')}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
]
ZERO_IS_RIGHT = re.compile(
    r"ledger_lost_records_total|requests_in_flight|requests_queued|reload_successful"
)
"""Nothing is lost or refused here, and nothing runs or waits when Prometheus looks."""


LATE = (
    'count(ALERTS{alertname="PointsmanUnpricedModel",alertstate="firing"})',
    "count(pointsman:saving:ratio1h)",
    "sum(rate(pointsman_ledger_records_total[1m]))",
    "sum(rate(pointsman_ledger_errors_total[1m]))",
    "max(pointsman_ledger_lag_seconds)",
    "sum(pointsman_redis_away)",
)
"""What comes after the requests are counted: rules, and the ledger's own numbers."""


class Prometheus:
    """A running server's API."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=30)

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx2.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()

    def query(self, expr: str) -> list[dict[str, Any]]:
        answer = self._http.get("/api/v1/query", params={"query": expr})
        assert answer.status_code == 200, (expr, answer.text)
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def value(self, expr: str) -> float:
        result = self.query(expr)
        return float(result[0]["value"][1]) if result else 0.0


@contextmanager
def prometheus(folder: Path, gateways: list[Gateway]) -> Iterator[Prometheus]:
    """A server with the shipped rules, which looks twice a second."""
    every = "500ms"
    settings = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [f"{RULES}/*.yml"],
        "scrape_configs": [
            {
                "job_name": "pointsman",
                "authorization": {"credentials": KEY},
                "static_configs": [{"targets": [f"127.0.0.1:{each.port}" for each in gateways]}],
            }
        ],
    }
    with (folder / "prometheus.yml").open("w") as file:
        YAML().dump(settings, file)
    port = free_port()
    command = [
        program("prometheus"), f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        one = Prometheus(f"http://127.0.0.1:{port}")
        try:
            eventually(one.ready, 30)
            yield one
        finally:
            one.close()
            process.terminate()
            process.wait(10)


def ask(gateway: Gateway, text: str, **fields: Any) -> int:
    messages = [{"role": "user", "content": text}]
    return gateway.chat(messages=messages, **fields).status_code


def send(gateway: Gateway, alone: Gateway, simulated: Control, round_: int) -> None:
    """Some of everything that the dashboards show."""
    for number in range(4):
        ask(gateway, f"What is {number} plus {round_}?")
        ask(gateway, f"Why is the number {number + 10 * round_} interesting?", stream=True)
        ask(gateway, "What is the capital of France?")
    simulated.script("large", usage={
        "prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 30},
    })  # fmt: skip
    assert ask(gateway, "Hello", model="dear") == 200
    assert ask(gateway, "Hello", model="falls") == 200
    assert ask(gateway, "Hello", model="ghost") == 502
    simulated.script("small", usage="missing")
    assert ask(gateway, "Hello", model="small") == 200
    simulated.script("small", usage={"prompt_tokens": -5, "completion_tokens": 1})
    assert ask(gateway, "Hello", model="small") == 200
    simulated.script("small", cut_after_chunks=3)
    ask(gateway, "Hello", model="small", stream=True)
    for _ in range(6):
        ask(gateway, "Hello", model="tight")
    for _ in range(4):
        ask(gateway, "Hello", model="poor", max_tokens=500)
    for _ in range(2):
        assert ask(gateway, f"The same, {round_}", model="kept") == 200
    simulated.script("small", status=500)
    assert ask(gateway, "Hello", model="small") == 200  # asked again
    for _ in range(LEAST_TIMES if not round_ else 1):
        assert ask(gateway, "Hello", model="hasty") == 200
    simulated.script("east", delay_seconds=LATE_SECONDS)
    assert ask(gateway, "Hello", model="hasty") == 200  # hedged
    simulated.script("east", status=429, headers={"retry-after": "0.05"})
    assert ask(gateway, "Hello", model="spread") == 200  # by the other, while this one cools down
    crowd(alone, simulated)
    assert ask(alone, "Hello") == 200


def crowd(gateway: Gateway, simulated: Control) -> None:
    """Three where one is served at a time: one waits in vain, and for one the queue is full."""
    simulated.script("small", delay_seconds=LATE_SECONDS)
    with ThreadPoolExecutor(3) as threads:
        codes = threads.map(lambda text: ask(gateway, text), ["Hello"] * 3)
    assert sorted(codes) == [200, 503, 503]


@pytest.fixture(scope="module")
def scraped(
    _serve: Serve,
    running_upstream: Control,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Prometheus, Gateway]]:
    program("prometheus")
    running_upstream.clear()
    gateway, alone = (_serve(text, POINTSMAN_ADMIN_KEY=KEY) for text in (CONFIG, ALONE))
    for each in (gateway, alone):
        each.http.headers["authorization"] = f"Bearer {KEY}"
    with prometheus(tmp_path_factory.mktemp("prometheus"), [gateway, alone]) as one:
        # A rate needs two looks between which something happened.
        eventually(lambda: one.value('sum(up{job="pointsman"})') == 2, 20)
        for round_ in range(3):
            send(gateway, alone, running_upstream, round_)
            counted = sum(each.metric("pointsman_requests_total") for each in (gateway, alone))
            eventually(
                lambda counted=counted: one.value("sum(pointsman_requests_total)") == counted, 20
            )
        for late in LATE:
            eventually(lambda late=late: one.value(late) > 0, 20)
        yield one, gateway


def filled(expr: str) -> str:
    """A query as Grafana sends it, with every variable at All."""
    expr = expr.replace("$__rate_interval", "1m").replace("$__range", "15m")
    expr = re.sub(r"\$(route|model|upstream)\b", ".*", expr)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_shows_data(panel: dict[str, Any], scraped: tuple[Prometheus, Gateway]) -> None:
    for target in panel["targets"]:
        values = [float(each["value"][1]) for each in scraped[0].query(filled(target["expr"]))]
        assert values, target["expr"]
        if not ZERO_IS_RIGHT.search(target["expr"]):
            assert any(value and not isnan(value) for value in values), target["expr"]


def test_every_variable_has_choices(scraped: tuple[Prometheus, Gateway]) -> None:
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((\w+), (\w+)\)", variable["query"]
                ).groups()
                assert len(scraped[0].query(f"count by ({label}) ({metric})")) > 1


def test_the_choice_of_a_route_leaves_out_the_others(scraped: tuple[Prometheus, Gateway]) -> None:
    (panel,) = (
        each for each in DASHBOARDS["cost.json"]["panels"] if each["title"] == "Spending by route"
    )
    expr = panel["targets"][0]["expr"].replace("$route", "(auto|dear)")
    routes = {each["metric"]["route"] for each in scraped[0].query(filled(expr))}
    assert routes == {"auto", "dear"}


def test_prometheus_and_the_gateway_agree_on_money(scraped: tuple[Prometheus, Gateway]) -> None:
    one, gateway = scraped
    spent = one.value(f'sum(pointsman_cost_dollars_total{{instance=~".*:{gateway.port}"}})')
    assert spent == pytest.approx(gateway.metric("pointsman_cost_dollars_total"))
    assert spent > 0


def test_the_json_is_what_is_written_in_python() -> None:
    for name, content in build().items():
        assert (FOLDER / name).read_bytes() == content, "run `python -m deploy.grafana.build`"
    assert {file.name for file in FOLDER.glob("*")} == set(build())


def test_panels_do_not_overlap() -> None:
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
