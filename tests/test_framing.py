"""Framing: the formulas against what the kernel counts on real connections."""

import asyncio
from pathlib import Path

import pytest

from fedmq import codec, framing, keys
from fedmq.codec import Limits
from fedmq.keys import AggregatorKeys, NodeKeys
from fedmq.messages import Ping, Pong, Update
from fedmq.transports import AGGREGATOR
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_bench import sockets

PATIENCE_S = 20.0
NAME = "edge-1"


def update(size: int) -> Update:
    return Update(1, 1, 0, "int8", 10, payload=bytes(size))


def sizes(frame: codec.Frame, name: str | None = None) -> list[int]:
    return [*([] if name is None else [len(name)]), *(len(part) for part in frame)]


async def exchanged(hub: ZmqHub, link: ZmqLink, up: list[codec.Frame], down: list[codec.Frame]) -> None:
    """Send all of these, one after the other, and wait until each has arrived."""
    peer = ""
    for frame in up:
        while await link.send([AGGREGATOR], frame):  # noqa: ASYNC110
            await asyncio.sleep(0)  # a connection needs a moment, and a link has no event for that
        ((peer, _),) = await hub.recv()
    for frame in down:
        assert await hub.send([peer], frame) == []
        await link.recv()


def test_the_bytes_of_a_connection_are_those_of_the_formula_to_the_byte() -> None:
    up = [codec.encode(message) for message in (Ping(1, 0, "idle"), update(255), update(256), update(70_000))]
    down = [codec.encode(message) for message in (Pong(1, 0), Pong(1, 1))]

    async def main() -> tuple[int, int]:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        link = ZmqLink.connect(hub.address, NAME, Limits())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await exchanged(hub, link, up, down)
            return sockets.carried(int(hub.address.rpartition(":")[2]))
        finally:
            await link.close()
            await hub.close()

    assert asyncio.run(main()) == (
        framing.GREETING_BYTES + sum(framing.zmtp(sizes(frame, NAME)) for frame in up),
        framing.GREETING_BYTES + sum(framing.zmtp(sizes(frame)) for frame in down),
    )


def test_under_curve_each_part_is_sealed(tmp_path: Path) -> None:
    own, theirs = (keys.new(tmp_path, name) for name in (AGGREGATOR, NAME))
    keys.enrol(theirs, tmp_path / "enrolled")
    pair, other = (keys.load(public.with_suffix(".key_secret")) for public in (own, theirs))
    first, more = codec.encode(Ping(1, 0)), [codec.encode(update(size)) for size in (200, 300, 70_000)]

    async def main() -> tuple[int, ...]:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits(), AggregatorKeys(pair, tmp_path / "enrolled"))
        link = ZmqLink.connect(hub.address, NAME, Limits(), NodeKeys(other, pair.public))
        port = int(hub.address.rpartition(":")[2])
        try:
            async with asyncio.timeout(PATIENCE_S):
                await exchanged(hub, link, [first], [])
                before = sockets.carried(port)
                await exchanged(hub, link, more, more)
            after = sockets.carried(port)
            return tuple(now - then for now, then in zip(after, before, strict=True))
        finally:
            await link.close()
            await hub.close()

    assert asyncio.run(main()) == (
        sum(framing.zmtp(sizes(frame, ""), curve=True) for frame in more),
        sum(framing.zmtp(sizes(frame), curve=True) for frame in more),
    )


@pytest.mark.parametrize(
    ("size", "back", "packets"), [(1, 0, 1), (1448, 0, 1), (1449, 0, 2), (10, 2 * 1448, 2), (14_480, 28_960, 20)]
)
def test_a_wire_adds_a_header_per_segment_and_acknowledges_every_second_one(size: int, back: int, packets: int) -> None:
    assert framing.wire(size, back) == size + packets * framing.PACKET_BYTES
