"""Ready prices are the library's, to the nano-dollar, and only where there is no doubt."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from genai_prices import Usage as TheirUsage
from genai_prices.types import ModelInfo, Provider

from app.accounting.cost import cost
from app.catalog import ready
from app.catalog.prices import DatedPrices, PriceBook, day_of, today
from app.cli.check import command as check
from app.compiling import Compiled, compile_config
from app.config.load import loads
from app.errors import ConfigError
from app.exchange.usage import Usage

TEXT = """\
upstreams:
  u: {kind: openai, base_url: 'ADDRESS'}
models:
  m: {upstream: u, id: 'ID'}
routes: {auto: {candidates: [m], router: null}}
"""
OPENAI = "https://api.openai.com/v1"


def compiled(address: str, model_id: str, **changes: str) -> Compiled:
    text = TEXT.replace("ADDRESS", address).replace("ID", model_id)
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{new}, {old}: ")
    return compile_config(loads(text))


def listed() -> Iterator[tuple[Provider, ModelInfo, PriceBook]]:
    for provider in ready._providers().values():
        if provider.id not in ready.HOSTS.values():
            continue
        for model in provider.models:
            try:
                yield provider, model, ready._compile(model)
            except ready.NotReady:
                continue


USAGES = [
    (Usage(1_000, 200), {"input_tokens": 1_000, "output_tokens": 200}),
    (
        Usage(300_001, 5_000, reasoning_tokens=4_000),
        {"input_tokens": 300_001, "output_tokens": 5_000, "output_reasoning_tokens": 4_000},
    ),
    (
        Usage(250_000, 10, cached_tokens=100_000),
        {"input_tokens": 250_000, "output_tokens": 10, "cache_read_tokens": 100_000},
    ),
    (
        Usage(9_000, 10, cached_tokens=1_000, cache_write_tokens=5_000),
        {
            "input_tokens": 9_000,
            "output_tokens": 10,
            "cache_read_tokens": 1_000,
            "cache_write_tokens": 5_000,
        },
    ),
    (
        Usage(9_000, 700, audio_input_tokens=8_000, audio_output_tokens=600),
        {
            "input_tokens": 9_000,
            "output_tokens": 700,
            "input_audio_tokens": 8_000,
            "output_audio_tokens": 600,
        },
    ),
]


@pytest.mark.parametrize("day", [date(2024, 6, 1), date(2026, 10, 13), date(2026, 11, 25)])
def test_costs_are_the_librarys(day: date) -> None:
    """Where we know a cost, the library computes the same; it also bills what we hold unknown."""
    when = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    compared = 0
    for provider, model, prices in listed():
        for ours, theirs in USAGES:
            known = cost(prices, ours, day_of(day))
            if known is None:
                continue
            billed = model.calc_price(
                TheirUsage(**theirs), provider, genai_request_timestamp=when
            ).total_price
            assert abs(known - billed * 10**9) <= Decimal("0.5"), (provider.id, model.id, ours)
            compared += 1
    assert compared > 1_000


def test_service_tiers_are_the_librarys() -> None:
    when, compared = datetime(2026, 11, 25, 12, tzinfo=UTC), 0
    for provider, model, prices in listed():
        for tier in ("flex", "priority"):
            ours, theirs = USAGES[2]
            known = cost(prices, Usage(250_000, 10, 100_000, service_tier=tier), today())
            if known is None:
                continue
            billed = model.calc_price(
                TheirUsage(**theirs),
                provider,
                genai_request_timestamp=when,
                price_context={"service_tier": tier},
            ).total_price
            assert known == round(billed * 10**9), (model.id, ours)
            compared += 1
    assert compared > 20


@pytest.mark.parametrize(
    ("address", "model_id", "provider"),
    [
        (OPENAI, "gpt-4o", "openai"),
        (OPENAI, "gpt-4o-2024-08-06", "openai"),
        ("https://api.anthropic.com/v1", "claude-3-5-haiku-20241022", "anthropic"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "models/gemini-2.5-pro",
            "google",
        ),
    ],
)
def test_a_known_id_at_its_provider_is_priced(address: str, model_id: str, provider: str) -> None:
    found = compiled(address, model_id)
    assert found.ready["m"].provider == provider
    assert found.models["m"].prices is found.ready["m"].prices
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("address", "model_id"),
    [
        ("http://127.0.0.1:9/v1", "gpt-4o"),
        ("https://api.openai.com.example.org/v1", "gpt-4o"),
        ("https://eu.api.openai.com/v1", "gpt-4o"),
        (OPENAI, "gpt-4o-2031-01-01"),
        (OPENAI, "gpt-4o-ours"),
        (OPENAI, "ft:gpt-4o-2024-08-06:us::x"),
        (OPENAI, "gpt-4o-mini-search-preview"),
        (OPENAI, "claude-3-5-haiku-20241022"),
        ("https://api.deepseek.com", "deepseek-chat"),
    ],
)
def test_a_doubt_is_no_price(address: str, model_id: str) -> None:
    found = compiled(address, model_id)
    assert (found.ready, found.models["m"].prices) == ({}, None)
    assert "its cost is unknown" in str(found.warnings[0])


def test_stated_prices_come_first() -> None:
    stated = compiled(OPENAI, "gpt-4o", id="prices: {input: 7, output: 7}")
    assert stated.ready == {}
    assert cost(stated.models["m"].prices, Usage(1, 0)) == 7_000


def test_auto_insists() -> None:
    assert compiled(OPENAI, "gpt-4o", id="prices: auto").ready["m"].provider == "openai"
    with pytest.raises(ConfigError, match=r"models\.m\.prices: no ready prices: .*`gpt-99`"):
        compiled(OPENAI, "gpt-99", id="prices: auto")


def test_a_provider_may_be_named() -> None:
    named = compiled("http://127.0.0.1:9/v1", "gpt-4o", base_url="provider: openai")
    assert named.ready["m"].provider == "openai"
    with pytest.raises(ConfigError, match=r"upstreams\.u\.provider: .*did you mean `openai`"):
        compiled("http://127.0.0.1:9/v1", "gpt-4o", base_url="provider: opnai")


def test_a_price_that_changes_has_its_dates() -> None:
    prices = compiled(OPENAI, "o3").models["m"].prices
    assert isinstance(prices, DatedPrices)
    before, after = day_of(date(2025, 6, 9)), day_of(date(2025, 6, 10))
    assert cost(prices, Usage(1_000, 0), before) == 10_000_000
    assert cost(prices, Usage(1_000, 0), after) == 2_000_000


def test_check_tells_of_ready_prices(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT.replace("ADDRESS", OPENAI).replace("ID", "gpt-4o"))
    told = CliRunner().invoke(check, [str(file)])
    assert told.exit_code == 0
    assert f"ready prices of {ready.version()}: m (openai)" in told.output
