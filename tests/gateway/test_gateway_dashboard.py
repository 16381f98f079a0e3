"""The dashboard as people meet it: the doors over real sockets, and the page in a real Chromium."""

from __future__ import annotations

import asyncio
import csv
import gzip
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import select

from app.accounting import tables
from app.accounting.database import Database
from app.dashboard.assets import charts
from app.simulated.control import Control
from tests.gateway.conftest import STANDARD, Gateway, Serve, eventually

ADVICE = "Chromium is not installed; on Debian: apt-get install chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ADMIN = "an-admin-key-of-the-tests"
DRAWN_MS = 30_000
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"


def config(url: str, **options: Any) -> str:
    settings = "".join(f", {name}: {value}" for name, value in options.items())
    thrifty = "candidates: [small, medium], baseline: medium, cache: {{max_temperature: 1}}"
    routes = f"  thrifty: {{{{{thrifty}, router: null}}}}\n"
    return f"{STANDARD}{routes}ledger: {{{{url: '{url}'{settings}}}}}\n"


def read(url: str) -> list[dict[str, Any]]:
    async def rows() -> list[dict[str, Any]]:
        database = await Database.open(url)
        async with database.read() as connection:
            found = [
                dict(r) for r in (await connection.execute(select(tables.requests))).mappings()
            ]
        await database.close()
        return found

    # In a thread of its own: playwright has a running loop in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(rows())).result()


SENT = 14


@pytest.fixture
def shown(gateway: Serve, simulated: Control, url: str) -> Gateway:
    """A gateway whose ledger holds requests of every sort, sent once."""
    one = gateway(config(url))
    if len(read(url)) < SENT:
        for number in range(6):
            one.chat(model="thrifty" if number % 3 == 0 else "auto")
        for _ in range(3):
            one.chat(stream=True)
        one.chat(model="large")
        simulated.script("up-small", times=None, status=500)
        for _ in range(2):
            one.chat()  # falls back
        for _ in range(2):
            one.chat(model="small")  # fails
        simulated.clear()
        eventually(lambda: len(read(url)) == SENT)
    return one


def data(gateway: Gateway, door: str, **wanted: Any) -> Any:
    answer = gateway.http.get(f"/dashboard/data/{door}", params=wanted).raise_for_status()
    return answer.json()


# --- the doors ------------------------------------------------------------------------------


def test_the_figures_are_the_ledgers(shown: Gateway, url: str) -> None:
    rows = read(url)
    for range_ in ("15m", "24h", "30d"):
        told = data(shown, "overview", range=range_)["total"]
        assert told["requests"] == SENT
        assert told["failed"] == sum(row["outcome"] == "error" for row in rows) == 2
        assert told["fallbacks"] == 2
        assert round(float(told["cost_usd"]) * 1e9) == sum(row["cost_nano"] or 0 for row in rows)
        assert round(float(told["saved_usd"]) * 1e9) == sum(row["saved_nano"] or 0 for row in rows)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"range": "2h"}, "range"),
        ({"route": "x" * 201}, "route"),
        ({"limit": 0}, "limit"),
        ({"before_us": -1}, "before_us"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    shown: Gateway, wanted: dict[str, Any], field: str
) -> None:
    answer = shown.http.get("/dashboard/data/decisions", params=wanted)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_a_request_that_is_not_there(shown: Gateway) -> None:
    answer = shown.http.get("/dashboard/data/decisions/req_none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "caller_unknown_request")


def test_the_page_allows_nothing_foreign(shown: Gateway) -> None:
    page = shown.http.get("/dashboard")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    addresses = re.findall(r'(?:src|href|data-charts)="([^"]*)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith(("/dashboard/static/", "#")), address
    assert "<style" not in page.text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text)


def test_files_are_kept_for_good_and_packed(shown: Gateway) -> None:
    page = shown.http.get("/dashboard").text
    address = re.findall(r'data-charts="([^"]*)"', page)[0]
    with (
        httpx2.Client(base_url=shown.url) as http,
        http.stream("GET", address, headers={"accept-encoding": "gzip"}) as answer,
    ):
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert gzip.decompress(packed) == charts().read_bytes()
    plain = shown.http.get(address, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == charts().read_bytes()
    for wrong in (address.replace("plotly.min.js", "index.html"), "/dashboard/static/0/page.js"):
        assert shown.http.get(wrong).status_code == 404


def test_data_is_behind_the_admin_key_and_the_page_is_not(
    gateway: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    one = gateway(config(url), POINTSMAN_ADMIN_KEY=ADMIN)
    assert one.http.get("/dashboard").status_code == 200
    doors = ("overview", "deployments", "tradeoff", "decisions", "decisions/x", "export/sums.csv")
    admin = {"Authorization": f"Bearer {ADMIN}"}
    made = one.http.post("/admin/keys", json={"name": "plain"}, headers=admin).json()
    for door in doors:
        where = f"/dashboard/data/{door}"
        assert one.http.get(where).status_code == 401
        plain = {"Authorization": f"Bearer {made['key']}"}
        assert one.http.get(where, headers=plain).status_code == 403
        known = 404 if door.endswith("/x") else 200
        assert one.http.get(where, headers=admin).status_code == known


def test_without_keys_only_names_of_this_machine_are_answered(shown: Gateway) -> None:
    """A foreign name that is pointed at this machine would make a foreign page its own."""
    where = "/dashboard/data/overview"
    answer = shown.http.get(where, headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "caller_foreign_origin")
    assert shown.http.get(where, headers={"host": f"localhost:{shown.port}"}).status_code == 200


def test_without_a_ledger_it_says_so(gateway: Serve) -> None:
    answer = gateway(STANDARD + "\nledger: null\n").http.get("/dashboard/data/overview")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "caller_no_database")


@pytest.mark.parametrize("keeps", ["true", "false"])
def test_a_prompt_is_told_only_where_it_is_kept(
    gateway: Serve, tmp_path_factory: pytest.TempPathFactory, keeps: str
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    one = gateway(config(url, keep_prompt_text=keeps))
    name = one.chat(messages=[{"role": "user", "content": "A secret of mine"}]).headers[
        "x-pointsman-request-id"
    ]
    eventually(lambda: bool(read(url)))
    told = one.http.get(f"/dashboard/data/decisions/{name}")
    assert told.json()["prompt"] == ("A secret of mine" if keeps == "true" else None)
    everything = [
        one.http.get(f"/dashboard/data/{door}").text
        for door in ("overview", "decisions", "tradeoff", "export/requests.csv")
    ]
    assert "A secret" not in "".join(everything)


# --- the page -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        assert not os.environ.get("CI"), ADVICE
        pytest.skip(ADVICE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def said() -> list[str]:
    """What the page wrote into the console."""
    return []


@pytest.fixture
def page(browser: Browser, shown: Gateway, said: list[str]) -> Iterator[Page]:
    """The page, drawn; it must have nothing to complain of, and ask nobody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{shown.url}/dashboard")
    drawn(tab)
    yield tab
    assert said == []
    assert [one for one in asked if not one.startswith((shown.url, "blob:", "data:"))] == []
    context.close()


def drawn(page: Page, range_: str = "24h") -> None:
    page.wait_for_selector(f"body[data-charts='{range_}']", timeout=DRAWN_MS)


def shown_number(text: str) -> float:
    return float(re.sub(r"[^0-9.\-]", "", text.replace("−", "-")))


def test_figures_on_the_page_are_the_ledgers(page: Page, url: str) -> None:
    rows = read(url)
    cost = sum(row["cost_nano"] or 0 for row in rows) / 1e9
    saved = sum(row["saved_nano"] or 0 for row in rows) / 1e9
    assert shown_number(page.inner_text("#spend")) == pytest.approx(cost, rel=0.005)
    assert shown_number(page.get_attribute("#spend", "title") or "") == pytest.approx(cost)
    assert shown_number(page.get_attribute("#saved", "title") or "") == pytest.approx(saved)
    expect(page.locator("#spend-sub")).to_contain_text(f"{SENT} requests")
    expect(page.locator("#health-sub")).to_contain_text("2 failed, 0 refused, 2 fallbacks")
    expect(page.locator("#cache-lead")).to_contain_text(f"from the cache, 1 of {SENT}")
    expect(page.locator(".decision")).to_have_count(SENT)
    by_model = {
        row.locator("th").inner_text(): int(row.locator("td").first.inner_text())
        for row in page.locator("#shares tbody tr").all()
    }
    names = [row["model"] or "no answer" for row in rows]
    assert by_model == {name: names.count(name) for name in set(names)}
    standing = page.locator("#deployments tbody tr")
    expect(standing.locator("th")).to_have_text(["small", "medium", "large"])
    expect(standing.filter(has_text="small").locator("td").first).to_have_text("well")
    # Plotly has really drawn: a bar for each step with spend in it.
    assert page.locator("#plot-spend .bars path").count() > 0
    # What was out of sight is drawn when one comes near.
    page.locator("#plot-errors").scroll_into_view_if_needed()
    expect(page.locator("#plot-errors .bars path")).not_to_have_count(0)
    expect(page.locator("#plot-tradeoff .scatterlayer path")).not_to_have_count(0)


def test_filters_and_ranges(page: Page, url: str) -> None:
    rows = read(url)
    page.select_option("#route", "thrifty")
    count = sum(row["route"] == "thrifty" for row in rows)
    expect(page.locator("#spend-sub")).to_contain_text(f"{count} requests")
    expect(page.locator(".decision")).to_have_count(count)
    page.select_option("#route", "")
    page.select_option("#model", "medium")
    count = sum(row["model"] == "medium" for row in rows)
    expect(page.locator("#spend-sub")).to_contain_text(f"{count} requests")
    page.select_option("#model", "")
    page.get_by_text("7 d", exact=True).click()
    drawn(page, "7d")
    expect(page.locator("#spend-sub")).to_contain_text(f"{SENT} requests")


def test_what_is_shown_is_in_the_address(page: Page, url: str) -> None:
    page.get_by_text("7 d", exact=True).click()
    page.select_option("#route", "thrifty")
    assert page.url.endswith("/dashboard?range=7d&route=thrifty")
    page.reload()
    drawn(page, "7d")
    count = sum(row["route"] == "thrifty" for row in read(url))
    expect(page.locator("#spend-sub")).to_contain_text(f"{count} requests")
    expect(page.locator("#route")).to_have_value("thrifty")


def test_what_is_read_is_not_pushed_away(page: Page) -> None:
    """By what comes: the list stands still while a decision is open."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_text("15 min", exact=True).click()
    drawn(page, "15m")
    page.locator(".decision").first.click()
    page.wait_for_selector(".panel dl")
    asked.clear()
    with page.expect_request_finished(lambda request: "/overview" in request.url):
        page.get_by_label("Live").uncheck()  # which looks once more
    expect(page.locator(".panel dl")).to_be_visible()
    assert not [one for one in asked if "/decisions?" in one]


def test_a_decision_opens_to_its_explanation(page: Page, url: str) -> None:
    name = next(row["id"] for row in read(url) if row["decision"] == "fallback")
    button = page.locator(f"[data-request='{name}']")
    button.click()
    panel = page.locator(".panel")
    expect(panel.locator("h3")).to_have_text(["Candidates", "Attempts"])
    for model in ("small", "medium", "large"):
        expect(panel.locator("table").first).to_contain_text(model)
    expect(panel.locator("tr.failed")).to_contain_text("server_error")
    expect(panel.locator("tr.chosen")).to_contain_text("served")
    expect(panel.locator("[data-no-neighbours]")).to_contain_text("decides by stated qualities")
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    expect(panel).to_have_count(0)


def test_a_decision_shows_its_neighbours_outcomes(page: Page, url: str) -> None:
    """As the door tells them where the ledger keeps vectors."""
    near = [{"id": "n1", "task": "sums", "similarity": 0.91, "scores": {"small": 0.25}}]

    def with_neighbours(route: Any) -> None:
        told = route.fetch().json()
        route.fulfill(json={**told, "neighbours": near, "no_neighbours": None})

    page.route("**/dashboard/data/decisions/*", with_neighbours)
    name = next(row["id"] for row in read(url) if row["decision"] == "fallback")
    page.locator(f"[data-request='{name}']").click()
    panel = page.locator(".panel")
    expect(panel.locator("h3")).to_have_text(["Candidates", "Neighbours' outcomes", "Attempts"])
    row = panel.get_by_role("row").filter(has_text="sums")
    expect(row.locator("td")).to_have_text(["91 %", "sums", "0.250", "–", "–"])


@pytest.mark.parametrize("what", ["sums", "requests"])
def test_csv(page: Page, what: str, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.click(f"[data-export={what}]")
    file = tmp_path / "it.csv"
    download.value.save_as(file)
    told = list(csv.DictReader(file.read_text().splitlines()))
    found = len(told) if what == "requests" else sum(int(row["requests"]) for row in told)
    assert found == SENT


def test_it_follows_what_happens(page: Page, shown: Gateway) -> None:
    page.get_by_text("15 min", exact=True).click()
    drawn(page, "15m")
    before = page.inner_text("#live")
    expect(page.locator("#live")).not_to_have_text(before, timeout=10_000)


def test_light_and_dark(page: Page) -> None:
    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    page.click("#theme")
    dark = paper()
    assert light != dark
    page.reload()
    drawn(page)
    assert paper() == dark
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert paper() == dark


def test_a_phone_scrolls_one_way_only(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.reload()
    drawn(page)
    page.locator(".decision").first.click()
    page.wait_for_selector(".panel dl")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(({id, name, dataset}) => dataset.request ? 'decision' : "
                "dataset.export || id || name)(document.activeElement)"
            )
        )
        if "decision" in reached:
            break
    assert {"theme", "range", "route", "model", "follow", "sums", "requests"} <= reached
    page.keyboard.press("Enter")
    page.wait_for_selector(".panel dl")
    page.focus("input[value='24h']")
    page.keyboard.press("ArrowRight")
    drawn(page, "7d")


def test_the_page_asks_for_the_key(
    browser: Browser, gateway: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    one = gateway(config(url), POINTSMAN_ADMIN_KEY=ADMIN)
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{one.url}/dashboard")
    expect(tab.locator("#door")).to_be_visible()
    expect(tab.locator("#main")).to_be_hidden()
    tab.fill("#key", "a wrong one")
    tab.keyboard.press("Enter")
    expect(tab.locator("#door-why")).to_contain_text("not valid")
    tab.fill("#key", ADMIN)
    tab.keyboard.press("Enter")
    drawn(tab)
    expect(tab.locator("#spend-sub")).to_have_text("No request in this time range")
    tab.reload()
    drawn(tab)
    tab.click("#forget")
    expect(tab.locator("#door")).to_be_visible()
    assert ADMIN not in tab.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
    context.close()
