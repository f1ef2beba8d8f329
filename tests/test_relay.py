"""The law of a slow link: a bucket under a clock that is given, and a relay that is never faster than its bucket."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fedmq_bench.bucket import Bucket
from fedmq_bench.relay import BURST_S, Relay, Shape

PATIENCE_S = 30.0


def test_bytes_leave_one_after_the_other_at_the_rate() -> None:
    bucket = Bucket(100.0)
    assert [bucket.take(50, now) for now in (0.0, 0.0, 0.2, 9.0)] == pytest.approx([0.5, 1.0, 1.5, 9.5])


def test_a_full_bucket_lets_a_burst_through_at_once_and_is_empty_then() -> None:
    bucket = Bucket(100.0, burst_bytes=50)
    assert [bucket.take(50, 0.0), bucket.take(50, 0.0), bucket.take(25, 1.0)] == pytest.approx([0.0, 0.5, 1.0])


def test_a_pause_fills_the_bucket_and_never_overfills_it() -> None:
    bucket = Bucket(100.0, burst_bytes=50)
    bucket.take(50, 0.0)
    assert bucket.take(100, 1000.0) == pytest.approx(1000.5)


@given(
    rate=some.floats(1, 1e9),
    burst=some.floats(0, 1e6),
    steps=some.lists(some.tuples(some.integers(0, 10**7), some.floats(0, 100)), min_size=1, max_size=30),
)
def test_between_any_two_moments_no_more_passes_than_the_rate_and_one_burst_allow(
    rate: float, burst: float, steps: list[tuple[int, float]]
) -> None:
    bucket, now, passed = Bucket(rate, burst), 0.0, []
    for size, pause in steps:
        now += pause
        passed.append((now, size, bucket.take(size, now)))
    for first, (begun_at, _, _) in enumerate(passed):
        for last in range(first, len(passed)):
            size = sum(each for _, each, _ in passed[first : last + 1])
            assert size <= (passed[last][2] - begun_at) * rate * (1 + 1e-6) + burst + 1e-3 * rate


def test_a_bucket_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes/s"):
        Bucket(0.0)


def test_a_shape_is_half_a_round_trip_each_way() -> None:
    assert Shape.of(1.0, 50.0) == Shape(125_000.0, 0.025)


async def echoed(size: int, up: Shape, down: Shape) -> tuple[float, list[int]]:
    """Send bytes through a relay to an echo, and have them back: how long that took, and what the relay has carried."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(size))
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        async with Relay("127.0.0.1", server.sockets[0].getsockname()[1], up, down) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            began, sent = loop.time(), bytes(range(256)) * (size // 256)
            writer.write(sent)
            assert await reader.readexactly(size) == sent
            took = loop.time() - began
            writer.close()
            await writer.wait_closed()
        return took, relay.carried


def test_what_passes_a_relay_is_what_was_sent_and_takes_at_least_what_the_law_says() -> None:
    size, up, down = 64 * 1024, Shape(1e6, 0.02), Shape(2e6, 0.03)
    took, carried = asyncio.run(echoed(size, up, down))
    assert carried == [size, size]
    # The echo answers when it has all, so both directions add up; each may save one burst.
    assert took >= size / 1e6 + size / 2e6 + 0.05 - 2 * BURST_S - 1e-3


def test_connections_do_not_share_a_link() -> None:
    size, shape = 64 * 1024, Shape(1e6)

    async def both() -> list[tuple[float, list[int]]]:
        return await asyncio.gather(*(echoed(size, shape, Shape(1e9)) for _ in range(8)))

    # One link for all would take eight times as long as one does: half a second, whatever the machine does.
    fastest = min(took for took, _ in asyncio.run(both()))
    assert size / 1e6 - BURST_S - 1e-3 <= fastest < 8 * size / 1e6


def test_who_is_gone_behind_a_relay_is_gone_before_it() -> None:
    async def main() -> bytes:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        async with asyncio.timeout(PATIENCE_S), Relay("127.0.0.1", port, Shape(1e6), Shape(1e6)) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            said = await reader.read()
            writer.close()
            return said

    assert asyncio.run(main()) == b""
