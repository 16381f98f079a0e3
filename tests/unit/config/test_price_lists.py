"""Prices that can't be meant are refused, each with its line."""

import pytest

from app.catalog.prices import DatedPrices, Prices, compile_prices, day_of, today
from app.config.load import loads
from app.errors import ConfigError

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  a:
    upstream: u
    prices:
%s
"""
DATED = """\
      - {from: 2026-01-01, input: 1, output: 1}
      - {from: 2026-07-01, input: 2, output: 2}"""

SIZES = """\
      input: 1
      output: 1
      tiers:
        - {above_tokens: 20, input: 1, output: 1}
        - {above_tokens: 20, input: 1, output: 1}"""
SERVICES = """\
      input: 1
      output: 1
      service_tiers:
        flex: {input: 1, output: 1}
        Flex: {input: 1, output: 1}"""


def problems(prices: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(TEXT % prices)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("      {input: -1, output: 1}", ":6: models.a.prices.input: input should be greater"),
        ("      {input: 100001, output: 1}", ":6: models.a.prices.input: input should be less"),
        ("      {input: .inf, output: 1}", ":6: models.a.prices.input:"),
        ("      {input: 1, output: true}", ":6: models.a.prices.output:"),
        ("      {input: 1}", ":5: models.a.prices.output: is required"),
        (
            "      {input: 1, output: 1, cashed_input: 1}",
            ":6: models.a.prices.cashed_input: unknown key (did you mean `cached_input`?)",
        ),
        (
            "      {input: 1, output: 1, currency: EUR}",
            ":6: models.a.prices.currency: must be one of 'USD'",
        ),
        ("      {input: 1, output: 1, per_request: -1}", ":6: models.a.prices.per_request:"),
        ("      5", ":5: models.a.prices: must be prices, a list of dated prices, or `auto`"),
        ("      []", ":5: models.a.prices: must be prices, a list of dated prices, or `auto`"),
        (
            "      {from: 2026, input: 1, output: 1}",
            ":6: models.a.prices.from: must be a date, such as 2026-07-01",
        ),
        ("      {from: 'soon', input: 1, output: 1}", ":6: models.a.prices.from: input should be"),
        (
            DATED.replace("07", "01"),
            ":7: models.a.prices[1].from: 2026-01-01 is listed twice (each list holds",
        ),
        (
            DATED.replace("2026-07", "2025-07"),
            ":7: models.a.prices[1].from: 2025-07-01 is before 2026-01-01, listed above",
        ),
        (
            DATED.replace("from: 2026-07-01, ", ""),
            ":7: models.a.prices[1]: `from` is required: only the first",
        ),
        (
            DATED.replace("output: 2", "output: -2"),
            ":7: models.a.prices[1].output: input should be greater",
        ),
        (
            SIZES,
            ":10: models.a.prices.tiers[1].above_tokens: 20 does not rise above 20",
        ),
        (
            SERVICES,
            ":10: models.a.prices.service_tiers.Flex: `Flex` is listed twice",
        ),
        (
            "      {input: 1, output: 1, service_tiers: {flex: {input: 1, outputs: 1}}}",
            "models.a.prices.service_tiers.flex.outputs: unknown key (did you mean `output`?)",
        ),
    ],
)
def test_wrong_prices_are_refused_where_they_stand(prices: str, said: str) -> None:
    assert any(said in problem for problem in problems(prices)), problems(prices)


def test_dates_are_compiled_to_days() -> None:
    written = loads(TEXT % DATED).config.models["a"].prices
    prices = compile_prices(written)
    assert isinstance(prices, DatedPrices)
    assert isinstance(written, list)
    first, second = (each.from_ for each in written)
    assert first is not None
    assert second is not None
    assert prices.days == (day_of(first), day_of(second))
    assert prices.on(day_of(first) - 1) is None
    assert prices.on(day_of(second) - 1) == Prices(10**9, 10**9)
    assert prices.on(day_of(second)) == Prices(2 * 10**9, 2 * 10**9)
    assert prices.on(today()) is not None


def test_one_list_with_a_date_holds_from_it() -> None:
    text = TEXT % "      {from: '2999-01-01', input: 1, output: 1}"
    prices = compile_prices(loads(text).config.models["a"].prices)
    assert prices is not None
    assert prices.on(today()) is None


def test_free_and_many_decimals_are_exact() -> None:
    text = TEXT % "      {input: 0, output: 0.000000001, cached_input: 1.5e-2}"
    prices = compile_prices(loads(text).config.models["a"].prices)
    assert prices == Prices(0, 1, 15_000_000)
