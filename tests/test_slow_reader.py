"""A peer that never reads, on a real socket, costs the aggregator no more memory than its queue."""

import asyncio
import struct
from pathlib import Path

import numpy as np

from desk import EXACT
from fedmq import codec
from fedmq.aggregator import Aggregator
from fedmq.codec import Frame, Limits
from fedmq.core import Event
from fedmq.delta import Arrays, Params, Schema
from fedmq.drive import Drive
from fedmq.effects import Effect, Keep, Log, Prepare, Remember, Train
from fedmq.messages import Hello, Message, Ping, Ready
from fedmq.past import Past
from fedmq.plan import Settings, Stop
from fedmq.rounds import PRESETS
from fedmq.transports.zmq import QUEUED_DOWN, ZmqHub, ZmqLink
from fedmq_nodes.node import Node, Trained
from pair import SPACE, introduction, job, params

PATIENCE_S = 120.0
VERSIONS, VALUES = 400, 250_000  # a version is a megabyte
MEGABYTE = 2**20
LARGE = Schema((("weight", (VALUES,)),))
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def zmtp(parts: Frame) -> bytes:
    """Return a message as ZeroMQ has it on the wire (ZMTP 3.0, RFC 23)."""
    more = [1] * (len(parts) - 1) + [0]
    return b"".join(
        bytes([flag | 2]) + struct.pack(">Q", len(part)) + part for flag, part in zip(more, parts, strict=True)
    )


class Deaf:
    """A socket that shakes hands as ZeroMQ does, joins as a node, asks for the version, and reads not one byte more."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._place = host, int(port)
        self.joined = 0

    async def torment(self) -> None:
        """Join, again and again, on the same connection, for as long as the aggregator lets us write."""
        reader, writer = await asyncio.open_connection(*self._place, limit=1024)
        writer.write(GREETING + READY)
        # A message that overtakes the other end's own READY is an offence, and ends the connection.
        await reader.readexactly(len(GREETING))
        _, size = await reader.readexactly(2)
        await reader.readexactly(size)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while True:
                self.joined += 1
                hello = Hello(self.joined, "test", "deaf", SPACE, 4, ("fedclip",), ("fp32",))
                said: list[Message] = [hello, Ready(self.joined, 10, 0), *[Ping(self.joined, -1, "idle")] * 9]
                for message in said:
                    writer.write(zmtp((b"deaf", *codec.encode(message))))
                await writer.drain()
                await asyncio.sleep(0.002)  # of the order of a round
        finally:
            writer.transport.abort()


def aggregator(hub: ZmqHub, logs: list[Log]) -> Drive:
    settings = Settings("test", codec=EXACT, rounds=PRESETS["fedasync"], stop=Stop(versions=VERSIONS, finish_s=1.0))
    start = params(schema=LARGE)
    now = asyncio.get_running_loop().time()
    core = Aggregator(settings, job(start), Past.none(start), np.random.default_rng(0), now)

    async def kept(number: int) -> Event:
        return lambda now: core.kept(number, now)

    def perform(effect: Effect) -> object:
        assert isinstance(effect, Keep)
        return kept(effect.number)

    return Drive(core, hub, perform, logs.append, list)  # type: ignore[arg-type]


def honest(link: ZmqLink) -> Drive:
    node = Node(introduction("honest"), 1, np.random.default_rng(1), asyncio.get_running_loop().time())

    async def event(effect: Effect) -> Event:
        if isinstance(effect, Prepare):
            return lambda now: node.prepared(10, 0, now)
        if isinstance(effect, Remember):
            return lambda now: node.remembered(effect.memory, now)
        assert isinstance(effect, Train)
        after = Params(Arrays(LARGE, effect.params.flat + np.float32(1)))
        result = Trained(effect.version, after, 10, 1, 0.5)
        return lambda now: node.trained(result, now)

    return Drive(
        node, link, lambda e: event(e) if isinstance(e, Prepare | Remember | Train) else None, lambda _log: None, list
    )


def test_a_peer_that_joins_and_never_reads_does_not_grow_the_aggregators_memory() -> None:
    async def main() -> tuple[int, Deaf, list[Log]]:
        limits, never, logs = Limits(), asyncio.Event(), list[Log]()
        hub = ZmqHub.bind("tcp://127.0.0.1:*", limits)
        deaf, link = Deaf(hub.address), ZmqLink.connect(hub.address, "honest", limits)
        serving, working = aggregator(hub, logs), honest(link)
        tormenting = asyncio.ensure_future(deaf.torment())
        most, before = 0, resident_bytes()

        async def measure() -> None:
            nonlocal most
            while True:
                most = max(most, resident_bytes() - before)
                await asyncio.sleep(0.01)

        measuring = asyncio.ensure_future(measure())
        try:
            async with asyncio.timeout(PATIENCE_S):
                done = await asyncio.gather(serving.run(never), working.run(never))
            assert [one.reason for one in done] == ["finished"] * 2
        finally:
            # The hub first: libzmq 4.3.5 may abort when a connection breaks whose messages nobody reads any more.
            await link.close()
            await hub.close()
            for task in (tormenting, measuring):
                task.cancel()
            await asyncio.gather(tormenting, measuring, return_exceptions=True)
        return most, deaf, logs

    most, deaf, logs = asyncio.run(main())
    # Its queue, and what an aggregator and an honest node have in hand; without a bound it is a megabyte per version.
    assert most < (QUEUED_DOWN + 50) * MEGABYTE, f"{most / MEGABYTE:.0f} MB"
    assert deaf.joined > 1
    assert [log for log in logs if log.event == "node.lost" and log.fields["node"] == "deaf"]
