"""The real redis-server that benchmarks start as well."""

from __future__ import annotations

import os

import pytest

from benchmarks.redis_process import RedisProcess


class RedisServer(RedisProcess):
    """Skips the test where there is no `redis-server`, but in CI, where there must be one."""

    def __init__(self, *, saving: bool = False) -> None:
        try:
            super().__init__(saving=saving)
        except FileNotFoundError as error:
            if os.environ.get("CI"):
                pytest.fail(str(error))
            pytest.skip(str(error))
