"""An answer over HTTP leaves nothing behind, however it is read."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from app.delivery.upstreams.base import Timeouts
from app.delivery.upstreams.http import HTTPAnswer, HTTPClient, HTTPUpstream
from app.errors import ConnectFailed, MalformedReply, UpstreamTimeout

TIMES = Timeouts(connect=10, first_byte=30, idle=30, total=30)


async def _whole(request: web.Request) -> web.Response:
    return web.Response(body=b"x" * 10)


async def _chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"x" * 10)
    if request.path == "/endless":
        await asyncio.sleep(30)
    return response


async def _packed(request: web.Request) -> web.Response:
    """A body that is larger than its declared length says."""
    packed = gzip.compress(b"x" * 1_000_000)
    return web.Response(body=packed, headers={"content-encoding": "gzip"})


async def _declared(request: web.Request) -> web.StreamResponse:
    """A body of a declared length that comes slowly, or stops on its way; or of none."""
    declared = {} if request.path == "/slow-chunked" else {"content-length": "30"}
    response = web.StreamResponse(headers=declared)
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"x" * 10)
        await asyncio.sleep(30 if request.path == "/stalled" else 0.15)
    return response


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/whole", _whole)
    app.router.add_post("/chunked", _chunked)
    app.router.add_post("/packed", _packed)
    app.router.add_post("/endless", _chunked)
    app.router.add_post("/stalled", _declared)
    app.router.add_post("/slow", _declared)
    app.router.add_post("/slow-chunked", _declared)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def whole(answer: HTTPAnswer) -> None:
    assert await answer.read() in (b"x" * 10, b"x" * 30)


async def by_blocks(answer: HTTPAnswer) -> None:
    while await answer.block():
        answer.begin()


async def closed_early(answer: HTTPAnswer) -> None:
    await answer.block()
    answer.close()


async def finished_early(answer: HTTPAnswer) -> None:
    await answer.block()
    answer.finish()


@pytest.mark.parametrize("path", ["/whole", "/chunked"])
@pytest.mark.parametrize("read", [whole, by_blocks, closed_early, finished_early])
async def test_no_timer_outlives_its_answer(
    base_url: str, path: str, read: Callable[[HTTPAnswer], Awaitable[None]]
) -> None:
    """It would hold the answer in memory until it fired: at load, gigabytes."""
    async with HTTPClient() as client:
        answer = await HTTPUpstream("u", base_url, {}, TIMES, client).post(path, b"{}")
        await read(answer)
        timer = answer._timer
        assert timer is not None
        assert timer.cancelled()


@pytest.mark.parametrize(
    "times",
    [
        Timeouts(connect=1, first_byte=0.2, idle=30, total=30),
        Timeouts(connect=1, first_byte=30, idle=0.2, total=30),
        Timeouts(connect=1, first_byte=30, idle=30, total=0.2),
    ],
    ids=["first_byte", "idle", "total"],
)
async def test_every_time_is_kept(base_url: str, times: Timeouts) -> None:
    async with HTTPClient() as client:
        upstream = HTTPUpstream("u", base_url, {}, times, client)
        answer = await upstream.post("/endless", b"{}")
        if times.first_byte > 1:
            answer.begin()
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(UpstreamTimeout):
            await by_blocks_without_begin(answer)
        assert loop.time() - started < 5


async def by_blocks_without_begin(answer: HTTPAnswer) -> None:
    while await answer.block():
        pass


async def test_a_body_of_known_length_may_not_stop_on_its_way(base_url: str) -> None:
    """Else it would take all the time of its request, and nobody could be asked instead."""
    times = Timeouts(connect=1, first_byte=30, idle=0.2, total=30)
    async with HTTPClient() as client:
        answer = await HTTPUpstream("u", base_url, {}, times, client).post("/stalled", b"{}")
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(UpstreamTimeout):
            await answer.read()
        assert loop.time() - started < 5


async def test_a_body_of_known_length_may_take_longer_than_it_may_be_idle(base_url: str) -> None:
    times = Timeouts(connect=1, first_byte=30, idle=0.3, total=30)
    async with HTTPClient() as client:
        answer = await HTTPUpstream("u", base_url, {}, times, client).post("/slow", b"{}")
        assert await answer.read() == b"x" * 30


@pytest.mark.parametrize("path", ["/slow", "/slow-chunked"])
async def test_a_body_that_drips_is_ended_by_the_total_time_alone(base_url: str, path: str) -> None:
    times = Timeouts(connect=1, first_byte=0.25, idle=0.25, total=0.3)
    async with HTTPClient() as client:
        answer = await HTTPUpstream("u", base_url, {}, times, client).post(path, b"{}")
        with pytest.raises(UpstreamTimeout):
            await answer.read()
        assert asyncio.get_running_loop().time() >= answer.deadline


async def test_a_key_that_cannot_be_sent_is_the_upstreams_failure(base_url: str) -> None:
    async with HTTPClient() as client:
        upstream = HTTPUpstream("u", base_url, {"x": "a\nb"}, TIMES, client)
        with pytest.raises(ConnectFailed):
            await upstream.post("/whole", b"{}")


def test_secrets_are_recognised() -> None:
    credentials = {"Authorization": "Bearer sk-12345678", "x": "on"}
    upstream = HTTPUpstream("u", "http://x", credentials, TIMES, HTTPClient())
    assert upstream.mentions_secret(b"no such key: sk-12345678")
    assert not upstream.mentions_secret(b"Bearer of news, on time")


@pytest.mark.parametrize("path", ["/whole", "/chunked", "/packed"])
async def test_no_more_is_read_than_was_allowed(base_url: str, path: str) -> None:
    async with HTTPClient() as client:
        upstream = HTTPUpstream("u", base_url, {}, TIMES, client)
        answer = await upstream.post(path, b"{}")
        with pytest.raises(MalformedReply, match="too large"):
            await answer.read(9)
        answer.close()


async def test_what_is_compressed_unasked_is_read_all_the_same(base_url: str) -> None:
    async with HTTPClient() as client:
        answer = await HTTPUpstream("u", base_url, {}, TIMES, client).post("/packed", b"{}")
        assert await answer.read() == b"x" * 1_000_000
