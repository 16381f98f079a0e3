"""Which names are open to whom, and what a refusal gives away."""

import pytest

from app.accounting.caller import ANONYMOUS, Caller
from app.catalog.model import Model, Prices
from app.errors import OutOfScope, UnknownModel
from app.routing.estimators.base import Candidate
from app.routing.estimators.prior import Prior
from app.routing.names import Names
from app.routing.objective import Quality
from app.routing.route import Route

SMALL = Model("small", "u", "s", Prices(100, 400))
LARGE = Model("large", "u", "l", Prices(2_500, 10_000))


def route(name: str) -> Route:
    estimator = Prior([Candidate("small"), Candidate("large")])
    return Route(name, (SMALL, LARGE), LARGE, Quality(), estimator)


AUTO, SECRET = route("auto"), route("secret-project")
NAMES = Names(
    {"auto": AUTO, "gpt-4": AUTO, "secret-project": SECRET}, {"small": SMALL, "large": LARGE}
)


def caller(routes: set[str], models: set[str]) -> Caller:
    return Caller("abcd", routes=frozenset(routes), models=frozenset(models))


@pytest.mark.parametrize("scope", ["auto", "gpt-4"])
@pytest.mark.parametrize("name", ["auto", "gpt-4", "pointsman/auto", "router-knn-0.4"])
def test_a_route_by_any_of_its_names(scope: str, name: str) -> None:
    assert NAMES.resolve(name, caller({scope}, set())).name == "auto"


@pytest.mark.parametrize(
    "name", ["secret-project", "pointsman/secret-project", "small", "secret-projects", "x'; --", ""]
)
def test_what_is_not_for_a_key_and_what_is_not_at_all_look_alike(name: str) -> None:
    with pytest.raises(OutOfScope) as caught:
        NAMES.resolve(name, caller({"auto"}, {"large"}))
    said = caught.value.message
    assert said == f"Key abcd may not ask for `{name}`; it may ask for: large, auto, gpt-4."
    assert caught.value.status == 403


def test_a_scope_of_models_pins_and_nothing_else() -> None:
    one = caller(set(), {"small"})
    assert NAMES.resolve("small", one) is SMALL
    for name in ("auto", "router-knn-0.4", "large"):
        with pytest.raises(OutOfScope, match=r"it may ask for: small\.$"):
            NAMES.resolve(name, one)


def test_a_key_for_nothing() -> None:
    """As one that only reads metrics."""
    with pytest.raises(OutOfScope, match="no model at all"):
        NAMES.resolve("auto", caller(set(), set()))


def test_a_scope_that_names_what_is_gone_opens_nothing() -> None:
    one = caller({"renamed"}, {"auto"})
    for name in ("renamed", "auto", "small"):
        with pytest.raises(OutOfScope):
            NAMES.resolve(name, one)


def test_a_long_list_is_cut() -> None:
    models = {f"m{i}": Model(f"m{i}", "u", "x", None) for i in range(500)}
    with pytest.raises(OutOfScope) as caught:
        Names({}, models).resolve("x" * 100_000, caller(set(), set(models)))
    assert len(caught.value.message) < 400
    assert caught.value.message.endswith("m19, ....")


def test_without_a_scope_the_nearest_name_is_told() -> None:
    with pytest.raises(UnknownModel, match="did you mean `secret-project`"):
        NAMES.resolve("secret-projects", ANONYMOUS)
