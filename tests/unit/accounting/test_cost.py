"""Cost is what the usage says at the prices given, or unknown."""

from app.accounting.cost import cost, expected_cost, missing_price
from app.catalog.model import Prices
from app.exchange.usage import Usage

PRICES = Prices(
    input=2_500_000_000,
    cached_input=1_250_000_000,
    cache_write=3_125_000_000,
    output=10_000_000_000,
)


def test_every_kind_of_token_at_its_price() -> None:
    usage = Usage(
        input_tokens=1_000,
        cached_tokens=600,
        cache_write_tokens=100,
        output_tokens=200,
        reasoning_tokens=150,
    )
    # 300 x 2,500 + 600 x 1,250 + 100 x 3,125 + 200 x 10,000 nano-dollars; reasoning is output.
    assert cost(PRICES, usage) == 750_000 + 750_000 + 312_500 + 2_000_000


def test_unknown_is_none_and_never_zero() -> None:
    usage = Usage(10, 10, cached_tokens=5)
    assert cost(None, usage) is None
    assert cost(PRICES, None) is None
    assert cost(Prices(input=1, output=1), usage) is None
    assert missing_price(Prices(input=1, output=1), usage) == "prices.cached_input"
    assert expected_cost(None, 10, 10) is None


def test_a_stated_price_of_zero_is_free() -> None:
    assert cost(Prices(input=0, output=0), Usage(10, 10)) == 0


def test_expected_cost_has_no_cache() -> None:
    assert expected_cost(PRICES, 1_000, 100.5) == 2_500_000 + 1_005_000
