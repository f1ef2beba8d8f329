"""What a link says of itself: the bytes that it has carried, to the byte, and what has not left."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmq import codec, framing
from fedmq.codec import Frame, Limits
from fedmq.messages import Ping, Update
from fedmq.transports import AGGREGATOR, Link
from fedmq.transports.mqtt import Topics
from fedmq.transports.pieces import HEAD
from fedmq.transports.tally import Tally
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_bench import sockets
from test_transports import KINDS, PATIENCE_S, Net, push, run, take

SMALL, LARGE = codec.encode(Ping(1, 0, "idle")), codec.encode(Update(1, 1, 0, "int8", 10, payload=bytes(70_000)))


async def until(link: Link, holds: Callable[[Tally], bool]) -> Tally:
    """Wait until the link says so: what other threads do has no event."""
    while not holds(link.tally()):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return link.tally()


def framed(kind: str, name: str, up: bool, frame: Frame) -> int:
    """Return the bytes that a frame is in the framing of a link."""
    sizes = [len(part) for part in frame]
    if kind == "memory":
        return sum(sizes)
    if kind == "mqtt":
        topic = Topics("toy").up(name) if up else Topics("toy").down(name)
        return framing.publish(len(topic), HEAD.size + sum(sizes))
    said = [0 if kind == "zmq-curve" else len(name)] if up else []
    return framing.zmtp([*said, *sizes], curve=kind == "zmq-curve")


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_count_the_bytes_of_frames_in_the_framing_of_their_link(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        node = net.connect("edge-1")
        await push(node, AGGREGATOR, SMALL)
        ((peer, _),) = await take(net.hub, 1)
        here, there = node.tally(), net.hub.tally()
        await push(node, AGGREGATOR, LARGE)
        await take(net.hub, 1)
        for frame in (SMALL, LARGE):
            assert await net.hub.send([peer], frame) == []
            await take(node, 1)
        up = framed(kind, "edge-1", True, LARGE)
        down = sum(framed(kind, "edge-1", False, frame) for frame in (SMALL, LARGE))
        assert net.hub.tally().received_bytes - there.received_bytes == up
        assert node.tally().received_bytes - here.received_bytes == down
        assert (await until(node, lambda found: found.sent_bytes - here.sent_bytes >= up)).sent_bytes == (
            here.sent_bytes + up
        )
        assert (await until(net.hub, lambda found: found.sent_bytes - there.sent_bytes >= down)).sent_bytes == (
            there.sent_bytes + down
        )

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_left_does_not_wait(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        node = net.connect("edge-1")
        await push(node, AGGREGATOR, LARGE)
        ((peer, _),) = await take(net.hub, 1)
        assert await net.hub.send([peer], LARGE) == []
        await take(node, 1)
        for link in (node, net.hub):
            await until(link, lambda found: (found.waiting, found.most or 0) == (0, 0))

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_for_nobody_is_counted_as_one_whose_peer_is_gone(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        assert await net.hub.send(["nobody", "nowhere"], SMALL) == ["nobody", "nowhere"]
        assert (net.hub.tally().gone, net.hub.tally().full, net.hub.tally().sent_bytes) == (2, 0, 0)

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", ["memory", "zmq"])
def test_what_a_node_does_not_read_waits_until_no_more_is_taken_for_it(kind: str, tmp_path: Path) -> None:
    frame = (b"head", bytes(2_000_000))

    async def scenario(net: Net) -> None:
        node = net.connect("edge-1")
        await push(node, AGGREGATOR, SMALL)
        ((peer, _),) = await take(net.hub, 1)
        sent = 0
        while not await net.hub.send([peer], frame):
            sent += 1
            await asyncio.sleep(0)
        found = net.hub.tally()
        assert found.full == 1
        assert 0 < found.waiting <= sent
        if kind == "memory":
            assert (found.waiting, found.most) == (sent, sent)
        await take(node, sent)
        await until(net.hub, lambda found: found.waiting == 0)

    run(kind, tmp_path, scenario)


def test_over_mqtt_a_frame_waits_until_the_broker_has_it(tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        nodes = {name: net.connect(name) for name in "ab"}
        for node in nodes.values():
            await push(node, AGGREGATOR, SMALL)
        await take(net.hub, 2)
        assert await net.hub.send(["a", "b"], SMALL) == []
        assert await net.hub.send(["a"], SMALL) == []
        found = net.hub.tally()  # no time has passed in which the broker could have answered
        assert (found.waiting, found.most) == (3, 2)
        await until(net.hub, lambda found: found.waiting == 0)

    run("mqtt", tmp_path, scenario)


def test_the_kernel_counts_what_the_link_counts_and_the_greeting() -> None:
    async def main() -> tuple[Tally, tuple[int, int]]:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        link = ZmqLink.connect(hub.address, "edge-1", Limits())
        try:
            async with asyncio.timeout(PATIENCE_S):
                for frame in (SMALL, LARGE):
                    await push(link, AGGREGATOR, frame)
                    ((peer, _),) = await take(hub, 1)
                    assert await hub.send([peer], frame) == []
                    await take(link, 1)
            return hub.tally(), sockets.carried(int(hub.address.rpartition(":")[2]))
        finally:
            await link.close()
            await hub.close()

    tally, (received, sent) = asyncio.run(main())
    assert (tally.received_bytes, tally.sent_bytes) == (
        received - framing.GREETING_BYTES,
        sent - framing.GREETING_BYTES,
    )


@pytest.mark.parametrize(
    ("topic", "payload", "expires", "size"),
    [
        (1, 0, False, 8),
        (10, 112, False, 129),
        (10, 113, False, 131),
        (10, 113, True, 136),
        (3, 3_000_000, False, 3_000_013),
    ],
)
def test_a_packet_of_mqtt_has_a_length_in_units_of_seven_bits(
    topic: int, payload: int, expires: bool, size: int
) -> None:
    assert framing.publish(topic, payload, expires) == size
