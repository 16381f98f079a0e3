"""Prometheus' own programs, which Debian's package `prometheus` brings."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips where it is not, but never under CI."""
    found = shutil.which(name)
    if found is None:
        message = f"{name} is not installed; on Debian: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
