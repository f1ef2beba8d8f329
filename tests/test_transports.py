"""The contract of a link, the same for every transport."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import broker
from fedmq import keys
from fedmq.codec import Frame, Limits
from fedmq.errors import AddressUnusable
from fedmq.login import Login
from fedmq.transports import AGGREGATOR, GONE, Link
from fedmq.transports.memory import MemoryHub
from fedmq.transports.mqtt import MqttHub, MqttLink
from fedmq.transports.zmq import ZmqHub, ZmqLink

PATIENCE_S = 60.0
KINDS = ("memory", "zmq", "zmq-curve", "mqtt")


@dataclass
class Net:
    """One aggregator's end, and how to make a node's."""

    hub: Link
    connect: Callable[[str], Link]
    name: Callable[[str], str]


@asynccontextmanager
async def network(kind: str, folder: Path, limits: Limits) -> AsyncIterator[Net]:
    made: list[Link] = []
    meanwhile = ExitStack()

    def remember(link: Link) -> Link:
        made.append(link)
        return link

    if kind == "memory":
        memory = MemoryHub()
        net = Net(remember(memory), lambda name: remember(memory.connect(name)), lambda name: name)
    elif kind == "zmq":
        hub = ZmqHub.bind("tcp://127.0.0.1:*", limits)
        net = Net(remember(hub), lambda name: remember(ZmqLink.connect(hub.address, name, limits)), lambda name: name)
    elif kind == "mqtt":
        address = meanwhile.enter_context(broker.running(folder)).address
        rng = np.random.default_rng(0)
        hub_there = await MqttHub.open(address, "toy", limits, rng, Login())
        net = Net(
            remember(hub_there),
            lambda name: remember(MqttLink.connect(address, "toy", name, limits, rng, Login())),
            lambda name: name,
        )
    else:
        own = keys.load(keys.new(folder / "aggregator", "aggregator").with_suffix(".key_secret"))
        hub = ZmqHub.bind("tcp://127.0.0.1:*", limits, keys.AggregatorKeys(own, folder / "enrolled"))

        def pair(name: str) -> keys.KeyPair:
            public = folder / name / f"{name}.key"
            if not public.exists():
                keys.enrol(keys.new(folder / name, name), folder / "enrolled")
            return keys.load(public.with_suffix(".key_secret"))

        net = Net(
            remember(hub),
            lambda name: remember(ZmqLink.connect(hub.address, name, limits, keys.NodeKeys(pair(name), own.public))),
            lambda name: pair(name).public.decode(),
        )
    try:
        yield net
    finally:
        for link in reversed(made):
            await link.close()
        meanwhile.close()


def run(kind: str, folder: Path, scenario: Callable[[Net], Awaitable[None]]) -> None:
    async def main() -> None:
        async with network(kind, folder, Limits()) as net, asyncio.timeout(PATIENCE_S):
            await scenario(net)

    asyncio.run(main())


async def take(link: Link, count: int) -> list[tuple[str, Frame]]:
    """Receive until so many frames have come."""
    frames: list[tuple[str, Frame]] = []
    while len(frames) < count:
        frames += await link.recv()
    return frames


async def push(link: Link, peer: str, frame: Frame) -> None:
    """Send until the link takes it: a connection needs a moment, and a link has no event for that."""
    while await link.send([peer], frame):  # noqa: ASYNC110
        await asyncio.sleep(0)


def joined(frame: Frame) -> bytes:
    return b"".join(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_goes_up_and_its_answer_comes_down_whole(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        node = net.connect("edge-1")
        payload = os.urandom(3_000_000)
        await push(node, "aggregator", (b"head", payload))
        ((peer, frame),) = await take(net.hub, 1)
        assert (peer, joined(frame)) == (net.name("edge-1"), b"head" + payload)
        assert await net.hub.send([peer], (b"answer", payload)) == []
        ((sender, frame),) = await take(node, 1)
        assert (sender, joined(frame)) == ("aggregator", b"answer" + payload)

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_one_frame_for_many_peers_reaches_each_of_them(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        nodes = {net.name(name): net.connect(name) for name in ("a", "b", "c")}
        for node in nodes.values():
            await push(node, "aggregator", (b"hello",))
        assert {peer for peer, _ in await take(net.hub, 3)} == set(nodes)
        assert await net.hub.send(list(nodes), (b"news", b"x" * 200_000)) == []
        for node in nodes.values():
            assert [joined(frame) for _, frame in await take(node, 1)] == [b"news" + b"x" * 200_000]

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        node = net.connect("here")
        await push(node, "aggregator", (b"hello",))
        await take(net.hub, 1)
        assert await net.hub.send([net.name("here"), "nobody"], (b"news",)) == ["nobody"]

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_comes_back_is_answered_on_its_new_connection(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        first = net.connect("edge-1")
        await push(first, "aggregator", (b"one",))
        await take(net.hub, 1)
        second = net.connect("edge-1")
        await push(second, "aggregator", (b"two",))
        ((peer, frame),) = await take(net.hub, 1)
        assert (peer, joined(frame)) == (net.name("edge-1"), b"two")
        assert await net.hub.send([peer], (b"welcome back",)) == []
        assert [joined(frame) for _, frame in await take(second, 1)] == [b"welcome back"]

    run(kind, tmp_path, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_never_reads_cannot_grow_the_aggregators_queue(kind: str, tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        node = net.connect("deaf")
        await push(node, "aggregator", (b"hello",))
        ((peer, _),) = await take(net.hub, 1)
        sent = 0
        while not await net.hub.send([peer], (b"news", b"x" * 1_000_000)):
            sent += 1
            assert sent < 1000

    run(kind, tmp_path, scenario)


def test_a_node_is_told_at_once_that_its_connection_broke(tmp_path: Path) -> None:
    async def main() -> None:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        link = ZmqLink.connect(hub.address, "edge-7", Limits())
        async with asyncio.timeout(PATIENCE_S):
            await push(link, AGGREGATOR, (b"head",))
            await hub.recv()
            await hub.close()
            assert await link.recv() == [(AGGREGATOR, GONE)]
            await link.close()

    asyncio.run(main())


def test_a_node_without_an_enrolled_key_is_not_heard(tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        hub = net.hub
        assert isinstance(hub, ZmqHub)
        stranger = keys.load(keys.new(tmp_path / "stranger", "stranger").with_suffix(".key_secret"))
        aggregator = keys.load_public(tmp_path / "aggregator" / "aggregator.key")
        link = ZmqLink.connect(hub.address, "stranger", Limits(), keys.NodeKeys(stranger, aggregator))
        plain = ZmqLink.connect(hub.address, "plain", Limits())
        friend = net.connect("friend")
        try:
            await push(friend, "aggregator", (b"hello",))
            assert await take(net.hub, 1) == [(net.name("friend"), (b"hello",))]
            assert await link.send(["aggregator"], (b"let me in",)) == ["aggregator"]
            assert await plain.send(["aggregator"], (b"let me in",)) == ["aggregator"]
        finally:
            await link.close()
            await plain.close()

    run("zmq-curve", tmp_path, scenario)


def test_an_address_in_use_or_senseless_is_refused_with_a_sentence() -> None:
    async def main() -> None:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        try:
            with pytest.raises(AddressUnusable, match="in use"):
                ZmqHub.bind(hub.address, Limits())
            with pytest.raises(AddressUnusable, match="an address looks like"):
                ZmqHub.bind("tcp:/nowhere", Limits())
            with pytest.raises(AddressUnusable, match="an address looks like"):
                ZmqLink.connect("nonsense", "edge-1", Limits())
        finally:
            await hub.close()

    asyncio.run(main())
