"""Estimators: small methods, one a module, from a query to the quality to expect of each candidate."""

from app.routing.estimators.base import Candidate, Estimate, Estimator, Neighbour, Query

__all__ = ["Candidate", "Estimate", "Estimator", "Neighbour", "Query"]
