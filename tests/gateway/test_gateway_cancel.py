"""A client that hangs up stops the upstream at once: nobody pays for what nobody reads."""

import asyncio
import time
from statistics import median
from typing import Any

import openai
import psutil
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, eventually

USER: Any = [{"role": "user", "content": "Hello"}]
AT_ONCE_SECONDS = 0.25


async def test_leaving_a_stream(client: AsyncOpenAI, standard: Gateway, simulated: Control) -> None:
    before = standard.metric("pointsman_requests_total", code="499")
    simulate = {"x_simulate": {"chunks": 2000, "chunk_delay_seconds": 0.02}}
    stream = await client.chat.completions.create(
        model="auto", messages=USER, stream=True, extra_body=simulate
    )
    events = aiter(stream)
    for _ in range(3):
        await anext(events)
    left_at = time.time()
    await stream.close()
    exchange = simulated.wait_for(lambda one: one["disconnected"])
    assert exchange["disconnected_at"] - left_at < AT_ONCE_SECONDS
    assert exchange["events_sent"] < 100
    eventually(lambda: standard.metric("pointsman_requests_total", code="499") == before + 1)
    eventually(lambda: standard.metric("pointsman_requests_in_flight") == 0)


async def test_how_soon_a_hang_up_reaches_the_upstream(
    client: AsyncOpenAI, simulated: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the clock that both processes share; the figure in docs/reliability.md is from here."""
    simulate = {"x_simulate": {"chunks": 2000, "chunk_delay_seconds": 0.02}}
    seconds = []
    for _ in range(15):
        simulated.clear()
        stream = await client.chat.completions.create(
            model="auto", messages=USER, stream=True, extra_body=simulate
        )
        await anext(aiter(stream))
        left_at = time.monotonic()
        await stream.close()
        gone = await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])
        seconds.append(gone["disconnected_monotonic"] - left_at)
    with capsys.disabled():
        print(f"\nhang-up to the upstream: median {median(seconds) * 1000:.1f} ms of 15")
    assert median(seconds) < AT_ONCE_SECONDS


async def test_leaving_a_stream_that_is_silent(client: AsyncOpenAI, simulated: Control) -> None:
    simulate = {"x_simulate": {"stall_after_chunks": 2}}
    stream = await client.chat.completions.create(
        model="auto", messages=USER, stream=True, extra_body=simulate
    )
    await anext(aiter(stream))
    left_at = time.time()
    await stream.close()
    exchange = simulated.wait_for(lambda one: one["disconnected"])
    assert exchange["disconnected_at"] - left_at < AT_ONCE_SECONDS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("delay", ["delay_seconds", "first_byte_delay_seconds"])
async def test_leaving_before_the_first_byte(
    client: AsyncOpenAI, standard: Gateway, simulated: Control, stream: bool, delay: str
) -> None:
    create: Any = client.chat.completions.create
    asking = asyncio.ensure_future(
        create(model="auto", messages=USER, stream=stream, extra_body={"x_simulate": {delay: 60}})
    )
    await asyncio.to_thread(simulated.wait_for, lambda one: one["finished_at"] is None)
    left_at = time.time()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    exchange = await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])
    assert exchange["disconnected_at"] - left_at < AT_ONCE_SECONDS
    assert len(simulated.log()) == 1, "nobody is there for whom another model could be tried"
    eventually(lambda: standard.metric("pointsman_requests_in_flight") == 0)


async def test_a_timeout_of_the_client_is_a_hang_up(
    client: AsyncOpenAI, simulated: Control
) -> None:
    simulate = {"x_simulate": {"delay_seconds": 60}}
    with pytest.raises(openai.APITimeoutError):
        await client.chat.completions.create(
            model="auto", messages=USER, extra_body=simulate, timeout=0.2
        )
    simulated.wait_for(lambda one: one["disconnected"])


async def test_a_client_that_does_not_read_slows_the_upstream(
    standard: Gateway, simulated: Control
) -> None:
    """Back-pressure: what nobody reads is not piled up in the gateway's memory."""
    chunk = f'data: {{"id":"x","choices":[{{"delta":{{"content":"{"x" * 100_000}"}}}}]}}\n\n'
    simulated.script(raw_sse=[chunk] * 300)
    request = b'{"model":"auto","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    before = standard.resident_bytes()
    reader, writer = await asyncio.open_connection("127.0.0.1", standard.port, limit=4096)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(request), request)
    )
    await reader.readuntil(b"\r\n\r\n")

    standstill = await asyncio.to_thread(bytes_at_a_standstill, simulated)
    assert standstill < 25_000_000
    assert standard.resident_bytes() - before < 20_000_000
    writer.close()
    await writer.wait_closed()
    await asyncio.to_thread(simulated.wait_for, lambda one: one["disconnected"])


def bytes_at_a_standstill(simulated: Control) -> int:
    """What the upstream has sent once it sends no more for a while, though it could."""
    last = -1
    while last != (last := int(simulated.log()[-1]["bytes_sent"])):
        time.sleep(0.3)
    return last


async def test_a_hundred_hang_ups_leave_nothing_behind(
    client: AsyncOpenAI, standard: Gateway, simulated: Control
) -> None:
    process = psutil.Process(standard.process.pid)
    await client.chat.completions.create(model="auto", messages=USER)
    before = process.num_fds()
    simulate = {"x_simulate": {"chunks": 2000, "chunk_delay_seconds": 0.05}}

    async def ask_and_leave() -> None:
        stream = await client.chat.completions.create(
            model="auto", messages=USER, stream=True, extra_body=simulate
        )
        await anext(aiter(stream))
        await stream.close()

    await asyncio.gather(*(ask_and_leave() for _ in range(100)))
    eventually(lambda: sum(one["disconnected"] for one in simulated.log(200)) == 100)
    eventually(lambda: standard.metric("pointsman_requests_in_flight") == 0)
    eventually(lambda: process.num_fds() <= before + 2)


async def test_many_at_once_are_not_mixed_up(client: AsyncOpenAI) -> None:
    async def ask(number: int) -> tuple[str, str]:
        text = f"answer {number} " * 20
        simulate = {"x_simulate": {"text": text, "chunk_delay_seconds": 0.001}}
        stream = await client.chat.completions.create(
            model="auto", messages=USER, stream=True, extra_body=simulate
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return text, "".join(parts)

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert all(said == wanted for wanted, said in answers)
