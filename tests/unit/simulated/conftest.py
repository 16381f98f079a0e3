from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from app.simulated.thread import simulated_in_thread


@pytest.fixture(scope="session")
def running() -> Iterator[Control]:
    with simulated_in_thread() as control:
        yield control


@pytest.fixture
def upstream(running: Control) -> Control:
    running.clear()
    return running


@pytest.fixture
async def client(upstream: Control) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=upstream.base_url, api_key="none", max_retries=0) as client:
        yield client
