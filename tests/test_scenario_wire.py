"""Wires: frames are told apart however their bytes come, and a link does to them what the plan says."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Self

import numpy as np
import pytest
import zmq
import zmq.asyncio

from fedmq.codec import Frame
from fedmq.transports.pieces import split
from fedmq_bench.scenario.draws import Draws
from fedmq_bench.scenario.fleet import Member
from fedmq_bench.scenario.form import Group, Partition, Way
from fedmq_bench.scenario.host import UP, Host
from fedmq_bench.scenario.link import Crossing
from fedmq_bench.scenario.mqtt import Mqtt
from fedmq_bench.scenario.wire import Splitter, Unit, Wire
from fedmq_bench.scenario.zmtp import Zmtp

PATIENCE_S = 30.0
GROUP = Group()
Carry = Callable[[Host, str, Frame, float], tuple[Crossing, bool]]


def host(group: Group = GROUP, partitions: tuple[Partition, ...] = ()) -> Host:
    member = Member("node-0", group, 0, "", 10, 1.0, None, 0.0, 0.0, partitions, Draws(0))
    return Host(member, None, 0, handshakes=0.0)


def fed(splitter: Splitter, data: bytes, cuts: list[int]) -> list[Unit]:
    """Return what comes of it if it comes in pieces that end there."""
    edges = [0, *cuts, len(data)]
    return [unit for start, end in pairwise(edges) for unit in splitter.feed(data[start:end])]


def zmtp_bytes(*messages: list[bytes]) -> bytes:
    """Return what a socket says: a greeting, a command, and messages."""
    stream = bytes(64) + bytes([4, 5]) + b"READY"
    for parts in messages:
        for place, part in enumerate(parts):
            more = place < len(parts) - 1
            is_long = len(part) > 255
            stream += bytes([more | is_long << 1]) + len(part).to_bytes(8 if is_long else 1) + part
    return stream


def mqtt_bytes(topic: str, payload: bytes, kind: int = 3) -> bytes:
    """Return a publication with QoS 1 and one property."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + b"\0\7" + b"\2\1\1" + payload
    low, high = len(body) % 128 | 128, len(body) // 128
    return bytes([kind << 4 | 2, low, high]) + body


@pytest.mark.parametrize("envelope", [0, 1])
def test_frames_of_zmtp_are_the_same_however_their_bytes_come(envelope: int) -> None:
    stream = zmtp_bytes([b"node-0", b"head"], [b"node-0", b"head", b"x" * 300])
    frames = [(b"node-0", b"head")[envelope:], (b"node-0", b"head", b"x" * 300)[envelope:]]
    for cut in range(len(stream)):
        units = fed(Zmtp(envelope), stream, [cut])
        assert b"".join(unit.data for unit in units) == stream
        assert [unit.frame for unit in units if unit.frame is not None] == frames


def test_frames_of_mqtt_are_the_publications_of_nodes_and_of_the_aggregator_however_their_bytes_come() -> None:
    (one,) = split((b"head", b"x" * 200), 1, 10_000)
    (other,) = split((b"y" * 200,), 2, 10_000)
    stream = b"\xd0\x00" + mqtt_bytes("fedmq/f/up/a", one) + mqtt_bytes("fedmq/f/status/a", other)
    stream += mqtt_bytes("fedmq/f/model", other)
    for cut in range(len(stream)):
        units = fed(Mqtt(), stream, [cut])
        assert b"".join(unit.data for unit in units) == stream
        assert [unit.frame for unit in units if unit.frame] == [(b"head" + b"x" * 200,), (b"y" * 200,)]


class Ends:
    """Both ends of one wire, as sockets of ZeroMQ."""

    def __init__(self, carry: Carry, own: Host) -> None:
        self.context = zmq.asyncio.Context()
        self.router, self.dealer = self.context.socket(zmq.ROUTER), self.context.socket(zmq.DEALER)
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")
        clock = asyncio.get_running_loop().time
        began_at = clock()
        self.wire = Wire(
            own,
            self.port,
            lambda direction: Zmtp(1 if direction == UP else 0),
            partial(carry, own),
            lambda: clock() - began_at,
        )

    async def __aenter__(self) -> Self:
        await self.wire.__aenter__()
        self.dealer.connect(f"tcp://127.0.0.1:{self.wire.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.wire.__aexit__(None, None, None)
        self.context.destroy(linger=0)


def plainly(own: Host, direction: str, frame: Frame, now: float) -> tuple[Crossing, bool]:
    return own.carry(direction, frame, now), False


def test_a_frame_arrives_whole_and_when_the_plan_says_at_the_earliest() -> None:
    way = Way(mbps=8.0, rtt_ms=100.0)
    payload = np.random.default_rng(0).bytes(200_000)

    async def main() -> tuple[list[bytes], float]:
        clock = asyncio.get_running_loop().time
        async with Ends(plainly, host(Group(up=way, down=way))) as ends:
            await ends.dealer.send_multipart([b"node-0", b"hello"])
            route, *_ = await asyncio.wait_for(ends.router.recv_multipart(), PATIENCE_S)
            began_at = clock()
            await ends.router.send_multipart([route, b"head", payload])
            return await asyncio.wait_for(ends.dealer.recv_multipart(), PATIENCE_S), clock() - began_at

    parts, took_s = asyncio.run(main())
    assert parts == [b"head", payload]
    assert took_s >= 0.2 + 0.05  # 1.6 Mbit at 8 Mbit/s, and half a round trip


def test_what_is_sent_twice_arrives_twice() -> None:
    def doubled(own: Host, direction: str, frame: Frame, now: float) -> tuple[Crossing, bool]:
        return Crossing(now, (now, now + 0.01)), False

    async def main() -> list[list[bytes]]:
        async with Ends(doubled, host()) as ends:
            await ends.dealer.send_multipart([b"node-0", b"hello"])
            return [(await asyncio.wait_for(ends.router.recv_multipart(), PATIENCE_S))[1:] for _ in range(2)]

    assert asyncio.run(main()) == [[b"node-0", b"hello"]] * 2


def test_an_upload_that_breaks_off_takes_its_connection_with_it_and_the_next_one_carries() -> None:
    def broken_once(own: Host, direction: str, frame: Frame, now: float) -> tuple[Crossing, bool]:
        own.uploads += direction == UP
        breaks = own.uploads == 1
        return Crossing(now, () if breaks else (now,)), breaks

    async def main() -> list[bytes]:
        async with Ends(broken_once, host()) as ends:
            monitor = ends.dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            await ends.dealer.send_multipart([b"node-0", b"first"])
            await asyncio.wait_for(monitor.recv_multipart(), PATIENCE_S)
            await ends.dealer.send_multipart([b"node-0", b"second"])
            _, *parts = await asyncio.wait_for(ends.router.recv_multipart(), PATIENCE_S)
            ends.dealer.disable_monitor()
            monitor.close(0)
            return parts

    assert asyncio.run(main()) == [b"node-0", b"second"]


def test_nothing_passes_while_the_link_is_cut() -> None:
    async def main() -> float:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        async with Ends(plainly, host(partitions=(Partition(0.0, 0.5),))) as ends:
            await ends.dealer.send_multipart([b"node-0", b"hello"])
            await asyncio.wait_for(ends.router.recv_multipart(), PATIENCE_S)
            return clock() - began_at

    assert asyncio.run(main()) >= 0.5
