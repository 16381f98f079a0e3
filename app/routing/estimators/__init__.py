"""Estimators: from a query to each model's quality, with uncertainty; one small method a file."""
