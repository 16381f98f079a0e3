"""What `check` says of prices beyond their form."""

import pytest

from app.compiling import compile_config
from app.config.load import loads
from app.errors import ConfigError

TEXT = """\
strict_prices: STRICT
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  priced: {upstream: u, prices: {input: 1, output: 1}}
  other: {upstream: u, prices: PRICES}
routes: {auto: {candidates: [priced], router: null}}
"""


def text(prices: str, strict: str = "false") -> str:
    return TEXT.replace("STRICT", strict).replace("PRICES", prices)


@pytest.mark.parametrize("prices", ["null", "[{from: 2999-01-01, input: 1, output: 1}]"])
def test_strict_prices_refuses_what_is_not_priced(prices: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_config(loads(text(prices, "true")))
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (5, "models.other")
    assert "strict_prices" in problem.message
    assert compile_config(loads(text("{input: 0, output: 0}", "true"))).warnings == ()


@pytest.mark.parametrize(
    ("prices", "path", "said"),
    [
        ("null", "models.other", "its cost is unknown"),
        ("[{from: 2999-01-01, input: 1, output: 1}]", "models.other.prices", "none of its prices"),
        ("{input: 0.0000005, output: 0.000001}", "models.other.prices", "far below any"),
        ("{input: 1, output: 1, cached_input: 2}", "models.other.prices.cached_input", "dearer"),
        (
            "[{input: 1, output: 1}, {from: 2026-01-01, input: 1, output: 1, cached_input: 2}]",
            "models.other.prices[1].cached_input",
            "dearer",
        ),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(prices: str, path: str, said: str) -> None:
    (warning,) = compile_config(loads(text(prices))).warnings
    assert (warning.line, warning.path) == (5, path)
    assert said in warning.message
