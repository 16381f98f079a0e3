"""What serves, what fits and what the command line offers are the same kinds."""

from app.cli.lab import ESTIMATORS
from app.lab.methods import FITS
from app.routing.estimators.kinds import DEFAULT_KIND, KINDS


def test_every_kind_is_fitted_served_and_offered() -> None:
    assert tuple(KINDS) == tuple(FITS) == ESTIMATORS
    assert ESTIMATORS[0] == DEFAULT_KIND
