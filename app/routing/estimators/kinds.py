"""The kinds of estimator that a router directory can hold, by the names that `train --estimator`,
`compare` and the manifest use.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.routing.estimators.blend import bind_blend
from app.routing.estimators.factors import bind_factors
from app.routing.estimators.method import Bind
from app.routing.estimators.pools import bind_pools
from app.routing.estimators.regression import bind_regression
from app.routing.estimators.similarity import bind_similarity
from app.routing.estimators.smoothed import bind_clusters, bind_smoothed
from app.routing.estimators.stack import bind_stack, bind_text
from app.routing.estimators.tuned import bind_tuned

KINDS: Mapping[str, Bind] = {
    "stack": bind_stack,
    "blend": bind_blend,
    "knn": bind_smoothed,
    "clusters": bind_clusters,
    "pools": bind_pools,
    "similarity-weighted": bind_similarity,
    "matrix-factorization": bind_factors,
    "classifier": bind_tuned,
    "meta-regression": bind_regression,
    "text": bind_text,
}

DEFAULT_KIND = "stack"
