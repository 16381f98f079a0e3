"""Every backend of shared state, as the contract suite meets it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.state.base import State
from app.state.memory import MemoryState


@pytest.fixture(params=["memory"])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[State]:
    one = MemoryState()
    await one.open()
    yield one
    await one.close()
