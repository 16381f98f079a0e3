"""How each kind of estimator is fitted: one function a kind, on the common ground."""

from __future__ import annotations

from collections.abc import Mapping

from app.lab.methods.base import Fit, FittedMethod
from app.lab.methods.blend import fit_blend
from app.lab.methods.factors import fit_factors
from app.lab.methods.pools import fit_pools
from app.lab.methods.regression import fit_regression
from app.lab.methods.similarity import fit_similarity
from app.lab.methods.smoothed import fit_clusters, fit_smoothed
from app.lab.methods.stack import fit_stack, fit_text
from app.lab.methods.tuned import fit_tuned

__all__ = ["FITS", "Fit", "FittedMethod"]

FITS: Mapping[str, Fit] = {
    "stack": fit_stack,
    "blend": fit_blend,
    "knn": fit_smoothed,
    "clusters": fit_clusters,
    "pools": fit_pools,
    "similarity-weighted": fit_similarity,
    "matrix-factorization": fit_factors,
    "classifier": fit_tuned,
    "meta-regression": fit_regression,
    "text": fit_text,
}
"""By the names of `app.routing.estimators.kinds.KINDS`."""
